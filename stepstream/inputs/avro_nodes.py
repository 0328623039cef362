"""Readers of Avro's binary encoding, one for each part of a schema."""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from uuid import UUID

from stepstream.inputs.strides import FIXED, SAME, VARINT, Coding, Scale, Segment
from stepstream.inputs.varints import MAX_VARINT_BYTES, read_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Step = Callable[[bytes, int, dict[str, Any]], int]

__all__ = [
    "Blob",
    "Branches",
    "Choice",
    "Field",
    "Fixed",
    "Integer",
    "Later",
    "NoLayoutError",
    "Node",
    "Nothing",
    "Number",
    "Object",
    "Trace",
    "read_length",
    "read_long",
    "to_decimal",
    "to_text",
    "to_uuid",
]


class Node(Protocol):
    """Reads values of one part of a schema.

    Methods raise ``IndexError``, ``ValueError`` or ``struct.error`` if the bytes are no such value.
    """

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        """The value that begins at a position, and where the next begins."""

    def skip(self, data: bytes, position: int) -> int:
        """Where the next value begins."""

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        """Note the layout of a value, and return where the next begins.

        Parameters
        ----------
        data, position
            Where it is.
        trace
            Where its bytes are noted.
        path
            The value's place in the item; None if nobody wants it.

        Raises
        ------
        NoLayoutError
            NumPy can't read such values.
        """


class NoLayoutError(Exception):
    """The items of a list have to be read one by one."""


class Trace:
    """The layout of an item, as far as it was read."""

    def __init__(self) -> None:
        self.mask = bytearray()
        self.segments: list[Segment] = []


def read_long(data: bytes, position: int) -> tuple[int, int]:
    """A number with a sign."""
    value, position = read_varint(data, position)
    if value >> 64:
        raise ValueError("an integer has more than 64 bits")
    return (value >> 1) ^ -(value & 1), position


def read_length(data: bytes, position: int) -> tuple[int, int]:
    """A length in bytes, of bytes that the data have."""
    length, position = read_long(data, position)
    if not 0 <= length <= len(data) - position:
        raise ValueError(f"a length of {length} bytes, {len(data) - position} are left")
    return length, position


class Nothing:
    """``null``: no bytes at all."""

    def read(self, data: bytes, position: int) -> tuple[None, int]:
        del data
        return None, position

    def skip(self, data: bytes, position: int) -> int:
        del data
        return position

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        del data, trace, path
        return position


class Number:
    """``float``, ``double`` and ``boolean``: NumPy and `struct` know them.

    Parameters
    ----------
    code
        As `struct` names it.
    dtype
        As NumPy names it.
    """

    def __init__(self, code: str, dtype: str) -> None:
        self.code = code
        self.dtype = dtype
        self.size = struct.calcsize("<" + code)
        self._unpack = struct.Struct("<" + code).unpack_from

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        return self._unpack(data, position)[0], position + self.size

    def skip(self, data: bytes, position: int) -> int:
        return _advance(data, position, self.size)

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        if path is not None:
            begin = len(trace.mask)
            trace.segments.append(Segment(path, Coding.FIXED, begin, self.size, self.dtype))
        trace.mask += bytes([FIXED]) * self.size
        return _advance(data, position, self.size)


class Integer:
    """``int`` and ``long``, with the unit of a time."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        value, position = read_long(data, position)
        return self.scale.apply(value), position

    def skip(self, data: bytes, position: int) -> int:
        return read_varint(data, position)[1]

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        _, end = read_long(data, position)
        size = end - position
        if size >= MAX_VARINT_BYTES:
            raise NoLayoutError
        if path is not None:
            begin = len(trace.mask)
            trace.segments.append(Segment(path, Coding.FOLDED, begin, size, scale=self.scale))
        trace.mask += bytes([VARINT]) * size
        return end


class Blob:
    """``string`` and ``bytes``: a length and so many bytes.

    Parameters
    ----------
    convert
        Makes the value of the bytes.
    """

    def __init__(self, convert: Callable[[bytes], Any]) -> None:
        self._convert = convert

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        length, position = read_length(data, position)
        end = position + length
        return self._convert(data[position:end]), end

    def skip(self, data: bytes, position: int) -> int:
        length, position = read_length(data, position)
        return position + length

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        if path is not None:
            raise NoLayoutError
        length, begin = read_length(data, position)
        trace.mask += bytes([SAME]) * (begin - position) + bytes([FIXED]) * length
        return begin + length


class Fixed:
    """``fixed``: a known number of bytes."""

    def __init__(self, size: int, convert: Callable[[bytes], Any]) -> None:
        self.size = size
        self._convert = convert

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        end = _advance(data, position, self.size)
        return self._convert(data[position:end]), end

    def skip(self, data: bytes, position: int) -> int:
        return _advance(data, position, self.size)

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        if path is not None:
            raise NoLayoutError
        trace.mask += bytes([FIXED]) * self.size
        return _advance(data, position, self.size)


class Choice:
    """``enum``: one of some names, by its number."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = symbols

    def read(self, data: bytes, position: int) -> tuple[str, int]:
        number, position = read_long(data, position)
        return _pick(self._symbols, number), position

    def skip(self, data: bytes, position: int) -> int:
        return read_varint(data, position)[1]

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        if path is not None:
            raise NoLayoutError
        return Integer(Scale()).trace(data, position, trace, None)


class Branches:
    """A union: the number of a branch, and its value."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        number, position = read_long(data, position)
        return self._branch(number).read(data, position)

    def skip(self, data: bytes, position: int) -> int:
        number, position = read_long(data, position)
        return self._branch(number).skip(data, position)

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        number, begin = read_long(data, position)
        trace.mask += bytes([SAME]) * (begin - position)
        return self._branch(number).trace(data, begin, trace, path)

    def _branch(self, number: int) -> Node:
        node: Node = _pick(self._nodes, number)
        return node


class Field(NamedTuple):
    """A field of a record: its name in the document, None if nobody wants it; and its reader."""

    name: str | None
    node: Node


class Object:
    """A record.

    Parameters
    ----------
    fields
        In the order in which they are written.
    defaults
        Values of fields that the writer didn't know.
    """

    def __init__(self, fields: Sequence[Field], defaults: Mapping[str, Any]) -> None:
        self._fields = fields
        self._defaults = defaults
        self._steps = _steps(fields)
        self.integers: list[tuple[str | None, Scale]] | None = None
        """Name and scale of each field, if all are integers and there are no others."""
        if not defaults and all(isinstance(node, Integer) for _, node in fields):
            self.integers = [(n, node.scale) for n, node in fields if isinstance(node, Integer)]

    def read(self, data: bytes, position: int) -> tuple[dict[str, Any], int]:
        document = dict(self._defaults)
        for step in self._steps:
            position = step(data, position, document)
        return document, position

    def skip(self, data: bytes, position: int) -> int:
        for field in self._fields:
            position = field.node.skip(data, position)
        return position

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        if self._defaults and path is not None:
            raise NoLayoutError
        for name, node in self._fields:
            inner = None if path is None or name is None else (*path, name)
            position = node.trace(data, position, trace, inner)
        return position


class Later:
    """A record that is still being read from the schema: it may contain itself."""

    node: Node

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        return self.node.read(data, position)

    def skip(self, data: bytes, position: int) -> int:
        return self.node.skip(data, position)

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        return self.node.trace(data, position, trace, path)


def _steps(fields: Sequence[Field]) -> list[Step]:
    """What reads the fields of a record; numbers that follow each other are read together."""
    steps: list[Step] = []
    code, names = "", []
    for name, node in [*fields, Field(None, Nothing())]:
        if isinstance(node, Number):
            code += node.code if name is not None else f"{node.size}x"
            names += [name] if name is not None else []
            continue
        if code:
            steps.append(partial(_read_run, struct.Struct("<" + code), names))
            code, names = "", []
        if name is not None:
            steps.append(partial(_read_field, name, node.read))
        elif not isinstance(node, Nothing):
            steps.append(partial(_skip_field, node.skip))
    return steps


def _read_run(
    numbers: struct.Struct, names: list[str], data: bytes, position: int, document: dict[str, Any]
) -> int:
    document.update(zip(names, numbers.unpack_from(data, position), strict=True))
    return position + numbers.size


def _read_field(
    name: str,
    read: Callable[[bytes, int], tuple[Any, int]],
    data: bytes,
    position: int,
    document: dict[str, Any],
) -> int:
    document[name], position = read(data, position)
    return position


def _skip_field(
    skip: Callable[[bytes, int], int], data: bytes, position: int, document: dict[str, Any]
) -> int:
    del document
    return skip(data, position)


def _pick(choices: Sequence[Any], number: int) -> Any:
    if not 0 <= number < len(choices):
        raise ValueError(f"number {number} of {len(choices)} choices")
    return choices[number]


def _advance(data: bytes, position: int, size: int) -> int:
    if size > len(data) - position:
        raise ValueError("the data end early")
    return position + size


def to_text(value: bytes) -> str:
    """A string in UTF-8."""
    return value.decode()


def to_decimal(scale: int) -> Callable[[bytes], float]:
    """What makes a decimal number, with so many digits behind the point, a float."""
    unit: int = 10**scale

    def convert(value: bytes) -> float:
        return int.from_bytes(value, signed=True) / unit

    return convert


def to_uuid(value: bytes) -> str:
    """A UUID of 16 bytes, as text."""
    return str(UUID(bytes=value))
