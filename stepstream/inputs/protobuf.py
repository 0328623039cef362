"""Protobuf: readers of messages, from the descriptions of their types."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor as Kind
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from stepstream.inputs.columns import MAX_READINGS
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.protobuf_fast import NS, TIMESTAMP, FastReader
from stepstream.inputs.protobuf_fields import DeclinedError, absent_value
from stepstream.inputs.schemas import SchemaError

if TYPE_CHECKING:
    from collections.abc import Collection

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

__all__ = ["Protobuf", "field_names", "find_message", "load_descriptors"]

MAX_OBJECTS = 8 * MAX_READINGS
_WELL_KNOWN = {
    module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb
    for module in (
        any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2,
        timestamp_pb2, wrappers_pb2,
    )
}  # fmt: skip
_DTYPES = {
    Kind.CPPTYPE_DOUBLE: np.float64,
    Kind.CPPTYPE_FLOAT: np.float32,
    Kind.CPPTYPE_INT32: np.int32,
    Kind.CPPTYPE_INT64: np.int64,
    Kind.CPPTYPE_UINT32: np.uint32,
    Kind.CPPTYPE_UINT64: np.uint64,
}
_NOT_USUAL = (DeclinedError, IndexError, ValueError, struct.error, RecursionError)


def load_descriptors(descriptor_set: bytes) -> tuple[DescriptorPool, list[str]]:
    """Load a compiled descriptor set: its types, and the names of its files.

    Raises
    ------
    SchemaError
        It isn't one, or it lacks a file that it imports.
    """
    files = descriptor_pb2.FileDescriptorSet()
    try:
        files.ParseFromString(descriptor_set)
    except DecodeError:
        raise SchemaError("not a compiled descriptor set of Protobuf") from None
    if not files.file:
        raise SchemaError("a descriptor set of Protobuf without any file")
    known = {file.name: file for file in files.file}
    pool = DescriptorPool()
    try:
        for name in known:
            _add(name, known, pool, set())
    except (TypeError, KeyError, RecursionError) as error:
        raise SchemaError(f"not a descriptor set of Protobuf: {str(error)[:200]}") from None
    return pool, list(known)


def _add(
    name: str,
    known: dict[str, descriptor_pb2.FileDescriptorProto],
    pool: DescriptorPool,
    importers: set[str],
) -> None:
    """Add a file to a pool, after those that it imports."""
    with suppress(KeyError):
        pool.FindFileByName(name)
        return
    file = known.get(name)
    if file is None:
        if name not in _WELL_KNOWN:
            raise SchemaError(f"{name} is imported and missing; compile with --include_imports")
        file = descriptor_pb2.FileDescriptorProto.FromString(_WELL_KNOWN[name])
    if name in importers:
        raise SchemaError(f"{name} imports itself")
    for imported in file.dependency:
        _add(imported, known, pool, importers | {name})
    pool.Add(file)
    pool.FindFileByName(name)


def find_message(pool: DescriptorPool, name: str) -> Descriptor:
    """Find a message type by its full name.

    Raises
    ------
    SchemaError
        There is none.
    """
    try:
        return pool.FindMessageTypeByName(name)
    except KeyError:
        raise SchemaError(f"no message type {name} in the descriptor set") from None


def field_names(descriptor: Descriptor) -> tuple[set[str], bool]:
    """Names of all fields of a type and of the types in it, and whether there are maps."""
    names: set[str] = set()
    seen: set[str] = set()
    has_maps = False
    waiting: list[Any] = [descriptor]
    while waiting:
        message = waiting.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        has_maps = has_maps or message.GetOptions().map_entry
        names |= {field.name for field in message.fields}
        waiting += [field.message_type for field in message.fields if field.message_type]
    return names, has_maps


class Protobuf:
    """Parses messages of one type.

    Only wanted fields become a part of the document. Packed lists of numbers become NumPy arrays,
    and so do lists of messages that have the same layout of bytes. Whatever is not usual is left
    to Google's own reader. Fields that are not wanted are not looked into.

    Parameters
    ----------
    descriptor
        The type.
    names
        The names of fields that are wanted, wherever they are.
    unit_ns
        Unit of times in the document, nanoseconds.
    """

    def __init__(self, descriptor: Descriptor, names: Collection[str], unit_ns: int = NS) -> None:
        self._names = frozenset(names)
        self._fast = FastReader(descriptor, names, unit_ns)
        self.find_layout = self._fast.find_layout
        """See `Alike.find_layout`."""
        self._class = message_factory.GetMessageClass(descriptor)
        self._objects = 0

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        try:
            return self._fast.read(value)
        except _NOT_USUAL:
            return self.parse_slowly(value)

    def parse_slowly(self, value: bytes) -> Any:
        """The same document, by Google's own reader."""
        try:
            message = self._class.FromString(value)
        except DecodeError:
            raise InvalidMessage(
                ErrorCode.INVALID_ENCODING, "not a Protobuf message of this type"
            ) from None
        self._objects = 0
        return self._document(message, self._names)

    def _document(self, message: Message, names: Collection[str]) -> dict[str, Any]:
        document = {}
        for field in message.DESCRIPTOR.fields:
            if field.name not in names:
                continue
            value = getattr(message, field.name)
            if field.is_repeated:
                found = self._list(field, value)
            elif field.has_presence and not message.HasField(field.name):
                found = absent_value(field) if field.has_default_value else None
            else:
                found = self._value(field, value)
            if found is not None:
                document[field.name] = found
        return document

    def _value(self, field: Any, value: Any) -> Any:
        if field.cpp_type == Kind.CPPTYPE_MESSAGE:
            if field.message_type.full_name == TIMESTAMP:
                return self._fast.time(value.seconds, value.nanos)
            return self._document(value, self._names)
        if field.type == Kind.TYPE_ENUM:
            known = field.enum_type.values_by_number.get(value)
            return value if known is None else known.name
        return value

    def _list(self, field: Any, values: Any) -> Any:
        is_message = field.cpp_type == Kind.CPPTYPE_MESSAGE
        if is_message and field.message_type.GetOptions().map_entry:
            return self._map(field, values)
        if len(values) > MAX_READINGS:
            raise InvalidMessage(
                ErrorCode.TOO_MANY_READINGS,
                f"{field.name}: a list of {len(values)} items, at most {MAX_READINGS}",
            )
        if field.cpp_type in _DTYPES:
            return np.array(values, _DTYPES[field.cpp_type]) if values else None
        self._objects += len(values)
        if self._objects > MAX_OBJECTS:
            raise InvalidMessage(
                ErrorCode.TOO_MANY_READINGS, f"over {MAX_OBJECTS} objects in lists"
            )
        items = [self._value(field, value) for value in values]
        if not items and not (is_message and field.message_type.full_name != TIMESTAMP):
            return None
        return items

    def _map(self, field: Any, values: Any) -> dict[str, Any] | None:
        value_field = field.message_type.fields_by_name["value"]
        return {
            str(key): self._value(value_field, values[key])
            for key in values
            if str(key) in self._names
        } or None
