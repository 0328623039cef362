"""Parsers of the formats with a schema, which comes from a registry or from a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepstream.errors import SettingsError
from stepstream.inputs.framing import HEADER_BYTES, FramedParser
from stepstream.inputs.layout import Layout
from stepstream.inputs.registry import Registry
from stepstream.inputs.schemas import SchemaError, check_packages
from stepstream.settings.paths import EACH

if TYPE_CHECKING:
    import pathlib

    from stepstream.inputs.alike import Alike
    from stepstream.inputs.parsers import Parser
    from stepstream.inputs.paths import Path
    from stepstream.inputs.registry import Registered
    from stepstream.settings import InputSettings, RegistrySettings

__all__ = [
    "UNITS_NS",
    "JsonSchemaParser",
    "from_json",
    "make_schema_parser",
    "read_file",
]

UNITS_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Units of times that are numbers."""


class JsonSchemaParser:
    """JSON, behind the id of a schema or not.

    The schema is not looked at: the paths say what is needed, and a message that lacks it is
    invalid. So this needs no registry, and an outage of the registry doesn't matter.
    """

    def __init__(self, parser: Parser) -> None:
        self._parse = parser.parse

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        # No JSON begins with a zero byte.
        return self._parse(value[HEADER_BYTES:] if value[:1] == b"\0" else value)


def make_schema_parser(settings: InputSettings, registry: RegistrySettings) -> Alike:
    """The parser of Avro or Protobuf.

    Raises
    ------
    SettingsError
        A package isn't installed, the schema's file can't be used, or a path isn't in it.
    """
    kind = settings.format
    check_packages(kind)
    if settings.schema_ is None and registry.url is None:
        raise SettingsError(f"{kind} needs registry.url, or a file as input.schema")
    content = None if settings.schema_ is None else read_file(settings.schema_)
    try:
        if kind == "avro":
            return _make_avro(settings, registry, content)
        return _make_protobuf(settings, registry, content)
    except SchemaError as error:
        raise SettingsError(f"input.schema: {settings.schema_}: {error}") from None


def read_file(path: pathlib.Path) -> bytes:
    """Read the schema's file.

    Raises
    ------
    SettingsError
        It can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"input.schema: can't read {path}: {error.strerror}") from None


def _wanted_names(settings: InputSettings) -> frozenset[str]:
    """Every name in a path."""
    return frozenset(str(part) for path in Layout.of(settings).wanted for part in path.parts)


def _make_avro(settings: InputSettings, registry: RegistrySettings, content: bytes | None) -> Alike:
    from stepstream.inputs.avro import Avro, parse_schema  # noqa: PLC0415 - an extra

    names = _wanted_names(settings)
    unit_ns = UNITS_NS.get(settings.time_unit)
    own_names: dict[str, Any] = {}
    own = None
    if content is not None:
        own = parse_schema(from_json(content), own_names)
        reader = Avro(own, names, named=own_names, unit_ns=unit_ns)
        if not reader.has_maps:
            _check_paths(settings, reader.names)
        if registry.url is None:
            return reader

    def compile_schema(registered: Registered) -> Alike:
        _check_kind(registered, "AVRO")
        named: dict[str, Any] = {}
        for text in registered.references.values():
            parse_schema(from_json(text), named)
        schema = parse_schema(from_json(registered.text), named)
        return Avro(schema, names, named=named, unit_ns=unit_ns, reader=own, reader_named=own_names)

    return FramedParser(Registry(registry), compile_schema)


def _make_protobuf(
    settings: InputSettings, registry: RegistrySettings, content: bytes | None
) -> Alike:
    from stepstream.inputs.proto_files import IndexedProtobuf, compile_files  # noqa: PLC0415
    from stepstream.inputs.protobuf import (  # noqa: PLC0415 - an extra
        Protobuf,
        field_names,
        find_message,
        load_descriptors,
    )

    names = _wanted_names(settings)
    unit_ns = UNITS_NS.get(settings.time_unit, UNITS_NS["s"])
    if registry.url is None:
        pool, _ = load_descriptors(content or b"")
        descriptor = find_message(pool, settings.message_type or "")
        known, has_maps = field_names(descriptor)
        if not has_maps:
            _check_paths(settings, known)
        return Protobuf(descriptor, names, unit_ns)
    if content is not None:
        raise SettingsError("input.schema: with a registry, Protobuf schemas come from there")

    def compile_schema(registered: Registered) -> Alike:
        _check_kind(registered, "PROTOBUF")
        file = compile_files(registered.text, registered.references)
        return IndexedProtobuf(file, names, unit_ns, settings.message_type)

    return FramedParser(Registry(registry), compile_schema)


def from_json(content: bytes | str) -> Any:
    """Read a schema's JSON; None if it is none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        # A registry may give a primitive type without quotes.
        return content.strip() if isinstance(content, str) else None


def _check_kind(registered: Registered, expected: str) -> None:
    if registered.kind != expected:
        raise SchemaError(f"it is of the type {registered.kind}, {expected} expected")


def _check_paths(settings: InputSettings, known: set[str]) -> None:
    """Refuse a path with a name that the schema has nowhere."""
    layout = Layout.of(settings)
    names = sorted({*layout.required, *settings.fields})
    paths = {f"input.fields: {name}": layout.fields[name] for name in names}
    others: dict[str, Path | None] = {
        "input.readings": layout.readings,
        "input.device_id": layout.device_id,
        "input.sensor.path": layout.sensor.path if layout.sensor else None,
    }
    paths |= {setting: path for setting, path in others.items() if path is not None}
    for setting, path in paths.items():
        for part in path.parts:
            if isinstance(part, str) and part not in {EACH, *known}:
                raise SettingsError(f"{setting}: no field {part!r} in {settings.schema_}")
