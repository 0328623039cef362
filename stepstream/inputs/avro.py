"""Avro: readers of messages, from the schemas that they were written with."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import fastavro.schema

from stepstream.inputs.avro_lists import MAX_OBJECTS, Array, Budget, Table
from stepstream.inputs.avro_nodes import (
    Blob,
    Branches,
    Choice,
    Field,
    Fixed,
    Integer,
    Later,
    Node,
    NoLayoutError,
    Nothing,
    Number,
    Object,
    Trace,
    to_decimal,
    to_text,
    to_uuid,
)
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.schemas import SchemaError
from stepstream.inputs.strides import ItemLayout, Scale

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Schema = str | list[Any] | dict[str, Any]

__all__ = ["TICKS_NS", "Avro", "parse_schema"]

_NUMBERS = {"float": ("f", "<f4"), "double": ("d", "<f8"), "boolean": ("?", "?")}
_TICK_NS = {"millis": 1_000_000, "micros": 1_000, "nanos": 1}
TICKS_NS = {
    f"{kind}-{unit}": tick_ns
    for kind in ("timestamp", "local-timestamp")
    for unit, tick_ns in _TICK_NS.items()
}
"""Logical types of a ``long``, and what a 1 is."""
_NOT_AS_EXPECTED = (IndexError, ValueError, OverflowError, struct.error, RecursionError)


def parse_schema(schema: Any, named: dict[str, Any] | None = None) -> Schema:
    """Check a schema, and write the full names of its types into it.

    Parameters
    ----------
    schema
        The schema, from JSON.
    named
        Schemas that it refers to, by their full names. Those in the schema are added.

    Raises
    ------
    SchemaError
        It isn't a schema.
    """
    try:
        parsed: Schema = fastavro.schema.parse_schema(
            schema, {} if named is None else named, _write_hint=False
        )
    except (fastavro.schema.SchemaParseException, ValueError, TypeError, KeyError) as error:
        raise SchemaError(f"not an Avro schema: {str(error)[:200]}") from None
    except (AttributeError, RecursionError):
        raise SchemaError("not an Avro schema") from None
    return parsed


class Avro:
    """Parses messages that were written with one schema.

    Only wanted fields become a part of the document. Arrays of numbers become NumPy arrays, and so
    do arrays of records that all have the same layout of bytes.

    Parameters
    ----------
    schema
        What the messages were written with, as `parse_schema` returns it.
    named
        Schemas that it refers to, by their full names.
    names
        The names of fields that are wanted, wherever they are.
    unit_ns
        Unit of times in the document, nanoseconds; None to leave them as they are.
    reader
        The schema that the names are from, if it is another: aliases and defaults are taken from
        it.
    reader_named
        Schemas that this one refers to.

    Raises
    ------
    SchemaError
        Messages with this schema have no fields.
    """

    def __init__(
        self,
        schema: Schema,
        names: Collection[str],
        *,
        named: Mapping[str, Any] | None = None,
        unit_ns: int | None = None,
        reader: Schema | None = None,
        reader_named: Mapping[str, Any] | None = None,
    ) -> None:
        self._budget = Budget()
        compiler = _Compiler(names, named or {}, reader_named or {}, unit_ns, self._budget)
        try:
            node = compiler.node(schema, reader)
        except RecursionError:
            raise SchemaError("the Avro schema is nested too deeply") from None
        self._read = node.read
        self._trace = node.trace
        self.names = compiler.found
        """Names of all fields."""
        self.has_maps = compiler.has_maps
        """Whether messages may have further names."""

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        self._budget.objects = MAX_OBJECTS
        try:
            document, end = self._read(value, 0)
        except _NOT_AS_EXPECTED as error:
            raise InvalidMessage(ErrorCode.INVALID_ENCODING, f"not Avro: {error}") from None
        if end != len(value):
            raise InvalidMessage(
                ErrorCode.INVALID_ENCODING,
                f"not Avro of this schema: {len(value) - end} bytes are left over",
            )
        return document

    def find_layout(self, value: bytes) -> ItemLayout | None:
        """See `Alike.find_layout`."""
        trace = Trace()
        try:
            end = self._trace(value, 0, trace, ())
        except (NoLayoutError, *_NOT_AS_EXPECTED):
            return None
        return ItemLayout(trace.segments, bytes(trace.mask), value) if end == len(value) else None


class _Compiler:
    """Makes a reader for each part of a schema."""

    def __init__(
        self,
        names: Collection[str],
        named: Mapping[str, Any],
        reader_named: Mapping[str, Any],
        unit_ns: int | None,
        budget: Budget,
    ) -> None:
        self._wanted = frozenset(names)
        self._named = dict(named)
        self._reader_named = reader_named
        self._unit_ns = unit_ns
        self._budget = budget
        self._records: dict[str, Later] = {}
        self.found: set[str] = set()
        self.has_maps = False

    def node(self, schema: Schema, reader: Schema | None = None) -> Node:
        if isinstance(schema, list):
            return Branches([self.node(branch, reader) for branch in schema])
        if isinstance(schema, str):
            if schema in self._records:
                return self._records[schema]
            if schema in self._named:
                return self.node(self._named[schema], reader)
            schema = {"type": schema}
        kind = schema["type"]
        if isinstance(kind, list | dict):
            return self.node(kind, reader)
        make: Callable[[dict[str, Any], Schema | None], Node] | None = {
            "record": self._record,
            "error": self._record,
            "array": self._array,
            "map": self._map,
        }.get(kind)
        if make is not None:
            return make(schema, reader)
        if kind in _NUMBERS:
            return Number(*_NUMBERS[kind])
        logical = schema.get("logicalType")
        if kind in {"int", "long"}:
            return Integer(self._scale(logical) if kind == "long" else Scale())
        return self._other(kind, schema, logical)

    def _other(self, kind: str, schema: dict[str, Any], logical: str | None) -> Node:
        if kind == "null":
            return Nothing()
        if kind == "string":
            return Blob(to_text)
        if kind == "enum":
            self._named[schema["name"]] = schema
            return Choice(schema["symbols"])
        convert: Callable[[bytes], Any] = bytes
        if logical == "decimal":
            convert = to_decimal(schema.get("scale", 0))
        if kind == "bytes":
            return Blob(convert)
        if kind == "fixed":
            self._named[schema["name"]] = schema
            return Fixed(schema["size"], to_uuid if logical == "uuid" else convert)
        raise SchemaError(f"the Avro schema has a type {kind!r}, which is unknown")

    def _scale(self, logical: str | None) -> Scale:
        """What makes a time of a logical type one of the wanted unit."""
        tick_ns = TICKS_NS.get(logical or "")
        if tick_ns is None or self._unit_ns is None:
            return Scale()
        if tick_ns >= self._unit_ns:
            return Scale(times=tick_ns // self._unit_ns)
        return Scale(over=self._unit_ns // tick_ns)

    def _record(self, schema: dict[str, Any], reader: Schema | None) -> Node:
        later = self._records[schema["name"]] = Later()
        known = self._fields_of_reader(reader)
        fields, written = [], set()
        for field in schema["fields"]:
            expected = known.get(field["name"])
            name = expected["name"] if expected else field["name"]
            written.add(name)
            self.found.add(name)
            node = self.node(field["type"], expected["type"] if expected else None)
            fields.append(Field(name if name in self._wanted else None, node))
        defaults = {
            field["name"]: field["default"]
            for field in known.values()
            if "default" in field and field["name"] in self._wanted and field["name"] not in written
        }
        later.node = Object(fields, defaults)
        return later.node

    def _fields_of_reader(self, reader: Schema | None) -> dict[str, dict[str, Any]]:
        """The reader's fields, by each name that a writer may have given them."""
        record = self._find(reader, "record")
        fields = record["fields"] if record else []
        known = {alias: field for field in fields for alias in field.get("aliases", ())}
        return {**known, **{field["name"]: field for field in fields}}

    def _find(self, reader: Schema | None, kind: str) -> dict[str, Any] | None:
        """The part of the reader's schema of a kind, which may be a branch of a union."""
        if isinstance(reader, list):
            found = (self._find(branch, kind) for branch in reader)
            return next((branch for branch in found if branch is not None), None)
        if isinstance(reader, str):
            reader = self._reader_named.get(reader)
        if isinstance(reader, dict):
            return reader if reader["type"] == kind else None
        return None

    def _array(self, schema: dict[str, Any], reader: Schema | None) -> Node:
        expected = self._find(reader, "array")
        items = self.node(schema["items"], expected["items"] if expected else None)
        return Array(items, self._budget)

    def _map(self, schema: dict[str, Any], reader: Schema | None) -> Node:
        self.has_maps = True
        expected = self._find(reader, "map")
        values = self.node(schema["values"], expected["values"] if expected else None)
        return Table(values, self._wanted, self._budget)
