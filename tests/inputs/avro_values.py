"""Random Avro schemas, values of them, and an encoder that cuts lists into random blocks."""

from __future__ import annotations

import struct
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from stepstream.inputs.varints import write_varint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

DEPTH = 3
FIELDS = ("a", "b", "c", "d")
_PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "string", "bytes")


@st.composite
def schemas(draw: st.DrawFn) -> dict[str, Any]:
    """A record with up to four fields of any types."""
    return _record(draw, count(), DEPTH)


def _schema(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> Any:
    # Further inside, all values have bytes: a list of values without any may be of any length, and
    # is refused if it is long.
    kinds = [*_PRIMITIVES[depth != DEPTH :], "enum", "fixed"]
    if depth:
        kinds += ["array", "map", "union", "record", "numbers", "readings"]
    kind = draw(st.sampled_from(kinds))
    name = f"T{next(numbers)}"
    match kind:
        case "enum":
            return {"type": "enum", "name": name, "symbols": ["X", "Y", "Z"]}
        case "fixed":
            return {"type": "fixed", "name": name, "size": draw(st.integers(1, 4))}
        case "array":
            return {"type": "array", "items": _schema(draw, numbers, depth - 1)}
        case "map":
            return {"type": "map", "values": _schema(draw, numbers, depth - 1)}
        case "union":
            return ["null", _plain(_schema(draw, numbers, 0))]
        case "record":
            return _record(draw, numbers, depth - 1)
        case "numbers":
            return {"type": "array", "items": draw(st.sampled_from(_PRIMITIVES[2:6]))}
        case "readings":
            return {"type": "array", "items": _record(draw, numbers, depth - 1)}
        case _:
            return kind


def _plain(schema: Any) -> Any:
    """A branch beside null."""
    return "double" if schema == "null" else schema


def _record(draw: st.DrawFn, numbers: Iterator[int], depth: int) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(FIELDS), min_size=1, unique=True))
    fields = [{"name": name, "type": _schema(draw, numbers, depth)} for name in names]
    return {"type": "record", "name": f"R{next(numbers)}", "fields": fields}


@st.composite
def values(draw: st.DrawFn, schema: Any) -> Any:
    """A value of a schema."""
    return _value(draw, schema)


def _value(draw: st.DrawFn, schema: Any) -> Any:
    if isinstance(schema, list):
        return None if draw(st.booleans()) else _value(draw, schema[1])
    kind = schema if isinstance(schema, str) else schema["type"]
    match kind:
        case "record":
            return {field["name"]: _value(draw, field["type"]) for field in schema["fields"]}
        case "array":
            return [_value(draw, schema["items"]) for _ in range(draw(st.integers(0, 6)))]
        case "map":
            keys = draw(st.lists(st.sampled_from([*FIELDS, "other", "ä"]), unique=True))
            return {key: _value(draw, schema["values"]) for key in keys}
        case "enum":
            return draw(st.sampled_from(schema["symbols"]))
        case "fixed":
            return draw(st.binary(min_size=schema["size"], max_size=schema["size"]))
        case _:
            return draw(_VALUES[kind])


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.one_of(st.integers(-64, 63), st.integers(-(2**31), 2**31 - 1)),
    "long": st.one_of(st.integers(-64, 63), st.integers(-(2**63), 2**63 - 1)),
    "float": st.floats(width=32),
    "double": st.floats(),
    "string": st.text(max_size=5),
    "bytes": st.binary(max_size=5),
}


def encode(schema: Any, content: Any, chance: Random) -> bytes:  # noqa: C901 - one case a type
    """A value in Avro's binary encoding; lists are cut into blocks anywhere."""
    if isinstance(schema, list):
        branch = 0 if content is None else 1
        return long(branch) + (encode(schema[1], content, chance) if branch else b"")
    kind = schema if isinstance(schema, str) else schema["type"]
    match kind:
        case "null":
            return b""
        case "boolean":
            return bytes([content])
        case "int" | "long":
            return long(content)
        case "float" | "double":
            return struct.pack("<" + kind[0], content)
        case "string" | "bytes":
            text: bytes = content.encode() if kind == "string" else content
            return long(len(text)) + text
        case "enum":
            return long(schema["symbols"].index(content))
        case "fixed":
            return bytes(content)
        case "record":
            parts = (encode(f["type"], content[f["name"]], chance) for f in schema["fields"])
            return b"".join(parts)
        case "array":
            return _blocks([encode(schema["items"], item, chance) for item in content], chance)
        case _:
            pairs = content.items()
            return _blocks(
                [
                    encode("string", k, chance) + encode(schema["values"], v, chance)
                    for k, v in pairs
                ],
                chance,
            )


def long(number: int) -> bytes:
    """A number in zigzag code and groups of seven bits."""
    return write_varint((number << 1) ^ (number >> 63))


def _blocks(items: list[bytes], chance: Random) -> bytes:
    encoded = b""
    while items:
        size = len(items) if chance.random() < 0.5 else chance.randint(1, len(items))
        block, items = b"".join(items[:size]), items[size:]
        with_length = chance.random() < 0.3
        encoded += (long(-size) + long(len(block)) if with_length else long(size)) + block
    return encoded + b"\0"


def plain(document: Any, names: frozenset[str]) -> Any:
    """A document without NumPy, with the wanted names only, and without fields that are null.

    The items of a structured array lack fields that are null in all of them.
    """
    if isinstance(document, np.ndarray):
        if document.dtype.names is None:
            return [plain(item, names) for item in document.tolist()]
        parts = {name: plain(document[name], names) for name in document.dtype.names}
        return [
            {name: part[row] for name, part in parts.items() if name in names}
            for row in range(len(document))
        ]
    if isinstance(document, dict):
        kept = {k: plain(v, names) for k, v in document.items() if k in names and v is not None}
        return {name: part for name, part in kept.items() if part != {}}
    if isinstance(document, list):
        return [plain(item, names) for item in document]
    # A NaN is itself.
    return repr(document)
