"""A quick reader for the usual Protobuf messages, which declines all others."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor as Kind

from stepstream.inputs.columns import MAX_READINGS
from stepstream.inputs.protobuf_fields import (
    BYTES_WIRE,
    FIXED32_WIRE,
    FIXED64_WIRE,
    INTEGERS,
    NUMBERS,
    VARINT_WIRE,
    DeclinedError,
    absent_value,
    decline,
    encode_tag,
    find_span,
    read_boolean,
    read_bytes,
    read_enum,
    read_integer,
    read_number,
    read_packed_integers,
    read_packed_numbers,
    read_text,
    skip_field,
    wire_type,
)
from stepstream.inputs.protobuf_items import Items, Trace, join_items, trace_skipped
from stepstream.inputs.strides import FIXED, SAME, VARINT, Coding, ItemLayout, Scale, Segment
from stepstream.inputs.varints import read_varint

if TYPE_CHECKING:
    from collections.abc import Collection

    from google.protobuf.descriptor import Descriptor

    from stepstream.inputs.protobuf_fields import Handler

__all__ = ["TIMESTAMP", "FastReader"]

TIMESTAMP = "google.protobuf.Timestamp"
NS = 1_000_000_000
MAX_DEPTH = 50
"""Of messages in messages; Google's own reader refuses those over 100."""


class FastReader:
    """Reads messages of a type whose wanted fields are numbers, text, messages and lists of these.

    It declines maps, groups, oneofs, messages that come twice, and lists that are not packed.

    Parameters
    ----------
    descriptor
        The type.
    names
        The names of fields that are wanted, wherever they are.
    unit_ns
        Unit of times in the document, nanoseconds.
    """

    def __init__(self, descriptor: Descriptor, names: Collection[str], unit_ns: int) -> None:
        self._cache: dict[str, _Message] = {}
        self._names = frozenset(names)
        self._unit_ns = unit_ns
        self._message = self.message(descriptor)

    def message(self, descriptor: Descriptor) -> _Message:
        """The reader of a type; a type may contain itself."""
        known = self._cache.get(descriptor.full_name)
        if known is None:
            known = self._cache[descriptor.full_name] = _Message()
            known.prepare(descriptor, self._names, self)
        return known

    def read(self, value: bytes) -> dict[str, Any]:
        """The document.

        Raises
        ------
        DeclinedError, IndexError, ValueError, struct.error, RecursionError
            Another reader has to look at it.
        """
        return self._message.read(value, 0, len(value))

    def time(self, seconds: int, nanos: int) -> float:
        """A time from a ``Timestamp``: the sum that an array of them gives."""
        per_second, per_nano = self.time_scales
        return float(per_second.apply(seconds)) + float(per_nano.apply(nanos))

    def find_layout(self, value: bytes) -> ItemLayout | None:
        """See `Alike.find_layout`."""
        trace = Trace()
        try:
            self._message.trace(value, 0, len(value), trace, ())
        except (DeclinedError, IndexError, ValueError, struct.error, RecursionError):
            return None
        return ItemLayout(trace.segments, bytes(trace.mask), value)

    @property
    def time_scales(self) -> tuple[Scale, Scale]:
        """What seconds and nanoseconds are multiplied by."""
        return Scale(times=NS // self._unit_ns), Scale(over=self._unit_ns)


class _Message:
    """Reads messages of one type."""

    def __init__(self) -> None:
        self.handlers: dict[int, Handler] = {}
        """What reads a field, by its tag."""
        self.fields: dict[int, Any] = {}
        """Wanted fields, by their tags when they are not in a list."""
        self.lists: dict[int, Any] = {}
        """Wanted lists that can become arrays, by their tags."""
        self._absent: dict[str, Any] = {}
        self._lists: list[str] = []
        self.implicit: set[str] = set()
        """Fields that a writer leaves out where they are 0."""

    def prepare(self, descriptor: Descriptor, names: frozenset[str], reader: FastReader) -> None:
        """Make the readers of the wanted fields."""
        self.reader = reader
        self.is_time = descriptor.full_name == TIMESTAMP
        wanted = frozenset({"seconds", "nanos"}) if self.is_time else names
        for field in descriptor.fields:
            if field.name not in wanted:
                continue
            wire, handler = _handler(field, reader)
            tag = field.number << 3 | wire
            self.handlers[tag] = handler
            if field.is_repeated:
                # It may be written in another form.
                for other in (VARINT_WIRE, FIXED64_WIRE, BYTES_WIRE, 3, FIXED32_WIRE):
                    self.handlers.setdefault(field.number << 3 | other, decline)
                if handler is not decline:
                    self.lists[tag] = field
                if field.message_type is not None and handler is not decline:
                    self._lists.append(field.name)
                    self._absent[field.name] = []
            else:
                if handler is not decline:
                    self.fields[tag] = field
                if not field.has_presence or field.has_default_value:
                    self._absent[field.name] = absent_value(field)
                    self.implicit.add(field.name)

    def read(self, data: bytes, position: int, end: int) -> dict[str, Any]:
        """The document of a message."""
        document: dict[str, Any] = {}
        handlers = self.handlers
        while position < end:
            tag = data[position]
            position += 1
            if tag >= 0x80:
                tag, position = read_varint(data, position - 1)
            handler = handlers.get(tag)
            if handler is None:
                position = skip_field(data, position, tag)
            else:
                position = handler(data, position, end, document)
        if position != end:
            raise ValueError("a message ends within a field")
        for name in self._lists:
            if name in document:
                document[name] = join_items(document[name])
        return {**self._absent, **document}

    def trace(
        self, data: bytes, position: int, end: int, trace: Trace, path: tuple[str, ...]
    ) -> None:
        """Note the layout of a message, or decline."""
        seen = set()
        while position < end:
            tag, begin = read_varint(data, position)
            trace.mask += bytes([SAME]) * (begin - position)
            position = begin
            field = self.fields.get(tag) or self.lists.get(tag)
            if field is None:
                if tag in self.handlers:
                    raise DeclinedError
                position = trace_skipped(data, position, tag, trace)
                continue
            if field.name in seen:
                raise DeclinedError
            seen.add(field.name)
            if field.is_repeated:
                position = self._trace_list(data, position, field, trace, path)
                continue
            position = self._trace_field(data, position, field, trace, path)
        if position != end or not self.implicit <= seen:
            raise DeclinedError

    def _trace_list(
        self, data: bytes, position: int, field: Any, trace: Trace, path: tuple[str, ...]
    ) -> int:
        """Note the layout of a list whose items all have the layout of the first."""
        begin, end = find_span(data, position, len(data))
        length = end - begin
        trace.mask += bytes([SAME]) * (begin - position)
        item = Trace()
        if field.type == Kind.TYPE_MESSAGE:
            self._trace_content(data, begin, end, field, item, path)
            # Between two items there are a tag and a length.
            tag = encode_tag(field.number << 3 | BYTES_WIRE)
            head = tag + data[position:begin]
            count = 1
            while data.startswith(head, begin + count * (length + len(head)) - len(head)):
                count += 1
            size = length + len(head)
            first = begin - len(head)
            whole_mask = bytes([SAME]) * len(head) + item.mask
            first_item = ItemLayout((), whole_mask, data[first : first + size])
            if first_item.count(data, first, count) != count:
                raise DeclinedError
            mask = (item.mask + bytes([SAME]) * len(head)) * count
            end = begin + count * size - len(head)
            mask = mask[: end - begin]
            if data.startswith(tag, end):
                raise DeclinedError
        else:
            size = self._trace_field(data, begin, field, item, path) - begin if length else 0
            count = length // size if size else 0
            if not count or length % size:
                raise DeclinedError
            mask = item.mask * count
            first_item = ItemLayout((), bytes(item.mask), data[begin : begin + size])
            if first_item.count(data, begin, count) != count:
                raise DeclinedError
        if count > MAX_READINGS or any(one.numbers is not None for one in item.segments):
            raise DeclinedError
        for one in item.segments:
            stride = None if field.type in NUMBERS else size
            first = len(trace.mask) + one.begin
            trace.segments.append(one._replace(begin=first, numbers=count, stride=stride))
        trace.mask += mask
        return end

    def _trace_content(
        self,
        data: bytes,
        begin: int,
        end: int,
        field: Any,
        trace: Trace,
        path: tuple[str, ...],
    ) -> None:
        if len(path) > MAX_DEPTH:
            raise DeclinedError
        message = self.reader.message(field.message_type)
        message.trace(data, begin, end, trace, (*path, field.name))

    def _trace_field(
        self,
        data: bytes,
        position: int,
        field: Any,
        trace: Trace,
        path: tuple[str, ...],
    ) -> int:
        path = (*path, field.name)
        begin = len(trace.mask)
        if field.type in NUMBERS:
            code, dtype = NUMBERS[field.type]
            size = struct.calcsize("<" + code)
            trace.segments.append(Segment(path, Coding.FIXED, begin, size, dtype))
            trace.mask += bytes([FIXED]) * size
            return position + size
        if field.type in INTEGERS:
            coding, dtype = INTEGERS[field.type]
            _, end = read_varint(data, position)
            if end - position > 9:
                raise DeclinedError
            segment = Segment(path, coding, begin, end - position, dtype)
            if self.is_time:
                is_seconds = field.name == "seconds"
                if not is_seconds and path[:-1] not in (known.path for known in trace.segments):
                    raise DeclinedError
                scale = self.reader.time_scales[not is_seconds]
                segment = segment._replace(
                    path=path[:-1], dtype="<f8", scale=scale, adds=not is_seconds
                )
            trace.segments.append(segment)
            trace.mask += bytes([VARINT]) * (end - position)
            return end
        if field.type != Kind.TYPE_MESSAGE:
            raise DeclinedError
        begin, end = find_span(data, position, len(data))
        trace.mask += bytes([SAME]) * (begin - position)
        self._trace_content(data, begin, end, field, trace, path[:-1])
        return end


def _handler(field: Any, reader: FastReader) -> tuple[int, Handler]:
    """The wire type of a field, and what reads it."""
    if field.containing_oneof is not None and not _is_optional(field):
        return wire_type(field), decline
    return _list_handler(field, reader) if field.is_repeated else _single_handler(field, reader)


def _list_handler(field: Any, reader: FastReader) -> tuple[int, Handler]:
    name, kind = field.name, field.type
    if kind in NUMBERS:
        return BYTES_WIRE, read_packed_numbers(name, np.dtype(NUMBERS[kind][1]))
    if kind in INTEGERS:
        return BYTES_WIRE, read_packed_integers(name, *INTEGERS[kind])
    if kind == Kind.TYPE_MESSAGE:
        message = field.message_type
        if not message.GetOptions().map_entry and message.full_name != TIMESTAMP:
            return BYTES_WIRE, Items(field, reader).read
    return wire_type(field), decline


def _single_handler(field: Any, reader: FastReader) -> tuple[int, Handler]:
    name, kind = field.name, field.type
    handler: Handler = decline
    if kind in NUMBERS:
        handler = read_number(name, struct.Struct("<" + NUMBERS[kind][0]))
    elif kind in INTEGERS:
        handler = read_integer(name, *INTEGERS[kind])
    elif kind == Kind.TYPE_BOOL:
        handler = read_boolean(name)
    elif kind == Kind.TYPE_STRING:
        handler = read_text(name)
    elif kind == Kind.TYPE_BYTES:
        handler = read_bytes(name)
    elif kind == Kind.TYPE_ENUM:
        handler = read_enum(field)
    elif kind == Kind.TYPE_MESSAGE:
        handler = _submessage(field, reader)
    return wire_type(field), handler


def _is_optional(field: Any) -> bool:
    """Whether a oneof has this field alone, as those have that stand for ``optional``."""
    return len(field.containing_oneof.fields) == 1


def _submessage(field: Any, reader: FastReader) -> Handler:
    name, message = field.name, reader.message(field.message_type)
    is_time = field.message_type.full_name == TIMESTAMP

    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        if name in document:
            raise DeclinedError  # both are to be merged
        begin, stop = find_span(data, position, end)
        inner = message.read(data, begin, stop)
        document[name] = reader.time(inner["seconds"], inner["nanos"]) if is_time else inner
        return stop

    return read
