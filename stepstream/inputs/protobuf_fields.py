"""Fields of Protobuf messages: how each kind is read from its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor as Kind

from stepstream.inputs.columns import MAX_READINGS
from stepstream.inputs.strides import Coding
from stepstream.inputs.varints import read_varint, read_varints, unfold

if TYPE_CHECKING:
    import struct
    from collections.abc import Callable

    Handler = Callable[[bytes, int, int, dict[str, Any]], int]
    """Reads a field into a document: the data, where the field begins behind its tag, where its
    message ends. It returns where the next field begins."""

__all__ = [
    "BYTES_WIRE",
    "FIXED32_WIRE",
    "FIXED64_WIRE",
    "INTEGERS",
    "NUMBERS",
    "VARINT_WIRE",
    "DeclinedError",
    "absent_value",
    "decline",
    "encode_tag",
    "find_span",
    "read_boolean",
    "read_bytes",
    "read_enum",
    "read_integer",
    "read_number",
    "read_packed_integers",
    "read_packed_numbers",
    "read_text",
    "skip_field",
    "wire_type",
]

VARINT_WIRE, FIXED64_WIRE, BYTES_WIRE, FIXED32_WIRE = 0, 1, 2, 5
"""Wire types."""
NUMBERS: dict[int, tuple[str, str]] = {
    Kind.TYPE_DOUBLE: ("d", "<f8"),
    Kind.TYPE_FLOAT: ("f", "<f4"),
    Kind.TYPE_FIXED64: ("Q", "<u8"),
    Kind.TYPE_FIXED32: ("I", "<u4"),
    Kind.TYPE_SFIXED64: ("q", "<i8"),
    Kind.TYPE_SFIXED32: ("i", "<i4"),
}
"""Numbers of a fixed size, as `struct` and as NumPy name them."""
INTEGERS: dict[int, tuple[Coding, str]] = {
    Kind.TYPE_INT64: (Coding.SIGNED, "<i8"),
    Kind.TYPE_INT32: (Coding.SIGNED, "<i4"),
    Kind.TYPE_UINT64: (Coding.UNSIGNED, "<u8"),
    Kind.TYPE_UINT32: (Coding.UNSIGNED, "<u4"),
    Kind.TYPE_SINT64: (Coding.FOLDED, "<i8"),
    Kind.TYPE_SINT32: (Coding.FOLDED, "<i4"),
}
"""Integers of variable length."""


class DeclinedError(Exception):
    """The message is not one of the usual ones; it may be invalid or not."""


def absent_value(field: Any) -> Any:
    """What a field is if a message doesn't have it."""
    if field.type == Kind.TYPE_ENUM:
        return field.enum_type.values_by_number[field.default_value].name
    return field.default_value


def wire_type(field: Any) -> int:
    if field.type in {Kind.TYPE_DOUBLE, Kind.TYPE_FIXED64, Kind.TYPE_SFIXED64}:
        return FIXED64_WIRE
    if field.type in {Kind.TYPE_FLOAT, Kind.TYPE_FIXED32, Kind.TYPE_SFIXED32}:
        return FIXED32_WIRE
    if field.type in {Kind.TYPE_STRING, Kind.TYPE_BYTES, Kind.TYPE_MESSAGE}:
        return BYTES_WIRE
    return 3 if field.type == Kind.TYPE_GROUP else VARINT_WIRE


def decline(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
    del data, position, end, document
    raise DeclinedError


def read_number(name: str, number: struct.Struct) -> Handler:
    unpack, size = number.unpack_from, number.size

    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        del end
        document[name] = unpack(data, position)[0]
        return position + size

    return read


def read_integer(name: str, coding: Coding, dtype: str) -> Handler:
    bits = 8 * int(dtype[2])
    low, sign = (1 << bits) - 1, 1 << (bits - 1)

    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        del end
        value, position = read_varint(data, position)
        value &= low
        if coding is Coding.FOLDED:
            value = (value >> 1) ^ -(value & 1)
        elif coding is Coding.SIGNED:
            value = (value ^ sign) - sign
        document[name] = value
        return position

    return read


def read_boolean(name: str) -> Handler:
    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        del end
        value, position = read_varint(data, position)
        document[name] = bool(value)
        return position

    return read


def read_enum(field: Any) -> Handler:
    name, values = field.name, field.enum_type.values_by_number

    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        del end
        number, position = read_varint(data, position)
        if number not in values:
            raise DeclinedError
        document[name] = values[number].name
        return position

    return read


def read_bytes(name: str) -> Handler:
    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        begin, stop = find_span(data, position, end)
        document[name] = data[begin:stop]
        return stop

    return read


def read_text(name: str) -> Handler:
    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        begin, stop = find_span(data, position, end)
        document[name] = data[begin:stop].decode()
        return stop

    return read


def read_packed_numbers(name: str, dtype: np.dtype[Any]) -> Handler:
    size = dtype.itemsize

    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        length = data[position]
        position += 1
        if length >= 0x80:
            length, position = read_varint(data, position - 1)
        stop = position + length
        if stop > end or length % size or name in document or length > MAX_READINGS * size:
            raise DeclinedError
        if length:
            document[name] = np.frombuffer(data, dtype, length // size, position)
        return stop

    return read


def read_packed_integers(name: str, coding: Coding, dtype: str) -> Handler:
    def read(data: bytes, position: int, end: int, document: dict[str, Any]) -> int:
        begin, stop = find_span(data, position, end)
        if name in document or stop - begin > MAX_READINGS * 10:
            raise DeclinedError
        if begin == stop:
            return stop
        count = int(np.count_nonzero(np.frombuffer(data, np.uint8, stop - begin, begin) < 0x80))
        values, found = read_varints(data, begin, count)
        if found != stop or count > MAX_READINGS:
            raise DeclinedError
        if dtype.endswith("4"):
            values &= np.uint64(0xFFFFFFFF)
        document[name] = (unfold(values) if coding is Coding.FOLDED else values).astype(dtype)
        return stop

    return read


def find_span(data: bytes, position: int, end: int) -> tuple[int, int]:
    """Where the bytes behind a length begin and end."""
    length, begin = read_varint(data, position)
    if length > end - begin:
        raise ValueError("a field is longer than its message")
    return begin, begin + length


def skip_field(data: bytes, position: int, tag: int) -> int:
    """Where the next field begins."""
    wire = tag & 7
    if not 8 <= tag < 1 << 32:
        raise DeclinedError  # no field has such a number
    if wire == VARINT_WIRE:
        return read_varint(data, position)[1]
    if wire == FIXED64_WIRE:
        return position + 8
    if wire == FIXED32_WIRE:
        return position + 4
    if wire == BYTES_WIRE:
        return find_span(data, position, len(data))[1]
    raise DeclinedError


def encode_tag(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
