"""Lists of Protobuf messages: those of one layout of bytes become an array."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.columns import MAX_READINGS
from stepstream.inputs.protobuf_fields import (
    BYTES_WIRE,
    VARINT_WIRE,
    DeclinedError,
    encode_tag,
    find_span,
    skip_field,
)
from stepstream.inputs.strides import FIXED, SAME, VARINT, ItemLayout, Segment
from stepstream.inputs.varints import read_varint

if TYPE_CHECKING:
    from stepstream.inputs.protobuf_fast import FastReader

__all__ = ["Items", "Trace", "join_items", "trace_skipped"]

LEAST_ITEMS = 4
"""Fewer items of one layout are read one by one."""
MAX_LAYOUTS = 4
"""Layouts that items were found to have, which are tried first."""


class Trace:
    """The layout of an item, as far as it was read."""

    def __init__(self) -> None:
        self.mask = bytearray()
        self.segments: list[Segment] = []


class Items:
    """Reads the messages of a list; those of one layout as an array."""

    def __init__(self, field: Any, reader: FastReader) -> None:
        self._name = field.name
        self._message = reader.message(field.message_type)
        self._tag = encode_tag(field.number << 3 | BYTES_WIRE)
        self._layouts: list[ItemLayout] = []

    def read(self, data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        """See `_Message.handlers`; it reads all items that follow each other."""
        parts = document.setdefault(self._name, [])
        first = position - len(self._tag)
        if data[first:position] != self._tag:
            raise DeclinedError
        while first < end and data.startswith(self._tag, first):
            run = self._find_run(data, first, end)
            if run is None:
                begin, stop = find_span(data, first + len(self._tag), end)
                parts.append(self._message.read(data, begin, stop))
                first = stop
            else:
                layout, count = run
                parts.append(layout.read(data, first, count))
                first += layout.size * count
            if len(parts) > MAX_READINGS:
                raise DeclinedError
        return first

    def _find_run(self, data: bytes, first: int, end: int) -> tuple[ItemLayout, int] | None:
        """The layout of the next items, and their number, if there are enough of them."""
        for layout in self._layouts:
            count = layout.count(data, first, (end - first) // layout.size)
            if count >= LEAST_ITEMS:
                return layout, count
        found = self._find_layout(data, first, end)
        if found is None:
            return None
        count = found.count(data, first, (end - first) // found.size)
        if count < LEAST_ITEMS:
            return None
        self._layouts = [found, *self._layouts[: MAX_LAYOUTS - 1]]
        return found, count

    def _find_layout(self, data: bytes, first: int, end: int) -> ItemLayout | None:
        begin, stop = find_span(data, first + len(self._tag), end)
        trace = Trace()
        trace.mask += bytes([SAME]) * (begin - first)
        try:
            self._message.trace(data, begin, stop, trace, ())
        except DeclinedError:
            return None
        if not trace.segments or any(segment.stride for segment in trace.segments):
            return None
        return ItemLayout(trace.segments, bytes(trace.mask), data[first:stop])


def trace_skipped(data: bytes, position: int, tag: int, trace: Trace) -> int:
    end = skip_field(data, position, tag)
    wire = tag & 7
    if wire == VARINT_WIRE:
        trace.mask += bytes([VARINT]) * (end - position)
    elif wire == BYTES_WIRE:
        _, begin = read_varint(data, position)
        trace.mask += bytes([SAME]) * (begin - position) + bytes([FIXED]) * (end - begin)
    else:
        trace.mask += bytes([FIXED]) * (end - position)
    return end


def join_items(parts: list[Any]) -> Any:
    """The items of a list, whether they were read as arrays or one by one."""
    if len(parts) == 1 and not isinstance(parts[0], dict):
        return parts[0]
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    dtypes = {part.dtype for part in arrays}
    if len(dtypes) == 1 and 2 * sum(map(len, arrays)) > len(parts):
        with suppress(KeyError):
            dtype = dtypes.pop()
            return np.concatenate([_as_array(part, dtype) for part in parts])
    items: list[Any] = []
    for part in parts:
        items += [part] if isinstance(part, dict) else _objects(part)
    return items


def _as_array(part: Any, dtype: np.dtype[Any]) -> Any:
    return np.array([_row(part, dtype)], dtype) if isinstance(part, dict) else part


def _row(item: dict[str, Any], dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """An item as a row of a structured array; a `KeyError` if it isn't one."""
    fields: Any = dtype.fields
    if len(fields) != len(item):
        raise KeyError
    return tuple(
        item[name] if kind.names is None else _row(item[name], kind)
        for name, (kind, *_) in fields.items()
    )


def _objects(array: Any) -> list[dict[str, Any]]:
    """The items of a structured array."""
    columns = [
        _objects(array[name]) if array[name].dtype.names else array[name].tolist()
        for name in array.dtype.names
    ]
    return [dict(zip(array.dtype.names, row, strict=True)) for row in zip(*columns, strict=True)]
