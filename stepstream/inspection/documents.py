"""The documents in messages, with all their fields, also those that no setting names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.framing import HEADER_BYTES, read_indexes
from stepstream.inputs.registry import Registry
from stepstream.inputs.schemas import SchemaError
from stepstream.inspection.encodings import Encoding, parse, schema_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.inputs.registry import Registered
    from stepstream.settings import InputSettings, RegistrySettings

    Read = Callable[[bytes], Any]

__all__ = ["read_documents"]

MAX_DOCUMENTS = 200
MAX_SCHEMAS = 20


def read_documents(
    encoding: Encoding,
    values: Sequence[bytes | None],
    settings: InputSettings,
    registry: RegistrySettings,
) -> tuple[str | None, list[Any]]:
    """Read some messages.

    Parameters
    ----------
    encoding
        What they look like.
    values
        The messages.
    settings, registry
        Where schemas are.

    Returns
    -------
    str, list
        The setting `input.format`, and documents of objects, lists, numbers and text.

    Raises
    ------
    RegistryAwayError
        The schema registry can't be asked.
    """
    step = max(1, len(values) // MAX_DOCUMENTS)
    some = [value for value in values[::step] if value]
    if encoding in {Encoding.AVRO, Encoding.FRAMED_PROTOBUF} and registry.url:
        return _by_registry(some, registry)
    if settings.schema_ is not None and settings.format in {"avro", "protobuf"}:
        read = _reader_of_file(settings)
        return settings.format, _parsed(read, some) if read else []
    found = [parse(encoding, value) for value in some]
    return encoding.format, [_plain(one) for one in found if isinstance(one, dict | list)]


def _by_registry(
    values: Sequence[bytes], settings: RegistrySettings
) -> tuple[str | None, list[Any]]:
    registry = Registry(settings)
    try:
        schemas = {}
        for number in list(dict.fromkeys(map(schema_id, values)))[:MAX_SCHEMAS]:
            try:
                schemas[number] = registry.fetch(number)
            except SchemaError:
                continue
    finally:
        registry.close()
    kind, documents = None, []
    for number, registered in schemas.items():
        mine = [value[HEADER_BYTES:] for value in values if schema_id(value) == number]
        if registered.kind == "AVRO":
            kind, read = "avro", _avro_reader(registered.text, registered.references.values())
        elif registered.kind == "PROTOBUF":
            kind, read = "protobuf", _protobuf_reader(registered)
        else:
            kind, read = "json-schema", lambda value: parse(Encoding.JSON, value)
        documents += _parsed(read, mine)
    return kind, documents


def _parsed(read: Read, values: Sequence[bytes]) -> list[Any]:
    found = []
    for value in values:
        try:
            found.append(_plain(read(value)))
        except Exception:  # noqa: BLE001, S112 - what can't be read is said elsewhere
            continue
    return found


def _avro_reader(text: str, references: Any = ()) -> Read:
    from stepstream.inputs.avro import Avro, parse_schema  # noqa: PLC0415 - an extra

    named: dict[str, Any] = {}
    schemas = [json.loads(one) for one in (*references, text)]
    for schema in schemas[:-1]:
        parse_schema(schema, named)
    names = {name for schema in schemas for name in _names(schema)}
    return Avro(parse_schema(schemas[-1], named), frozenset(names), named=named).parse


def _names(schema: Any) -> list[str]:
    """The names of everything in an Avro schema."""
    if isinstance(schema, dict):
        own = [schema["name"]] if isinstance(schema.get("name"), str) else []
        return own + [name for inner in schema.values() for name in _names(inner)]
    if isinstance(schema, list):
        return [name for inner in schema for name in _names(inner)]
    return []


def _protobuf_reader(registered: Registered) -> Read:
    from stepstream.inputs.proto_files import compile_files  # noqa: PLC0415 - an extra
    from stepstream.inputs.protobuf import Protobuf, field_names  # noqa: PLC0415

    file = compile_files(registered.text, registered.references)

    def read(value: bytes) -> Any:
        indexes, begin = read_indexes(value)
        descriptor = list(file.message_types_by_name.values())[indexes[0]]
        for index in indexes[1:]:
            descriptor = descriptor.nested_types[index]
        return Protobuf(descriptor, field_names(descriptor)[0]).parse(value[begin:])

    return read


def _reader_of_file(settings: InputSettings) -> Read | None:
    """What reads messages by the file of the schema; None if it can't be read."""
    try:
        content = settings.schema_.read_bytes() if settings.schema_ else b""
        if settings.format == "avro":
            return _avro_reader(content.decode())
        from stepstream.inputs.protobuf import (  # noqa: PLC0415 - an extra
            Protobuf,
            field_names,
            find_message,
            load_descriptors,
        )

        descriptor = find_message(load_descriptors(content)[0], settings.message_type or "")
    except (OSError, ValueError, SchemaError):
        return None
    return Protobuf(descriptor, field_names(descriptor)[0]).parse


def _plain(node: Any) -> Any:
    """A document without arrays of NumPy."""
    if isinstance(node, dict):
        return {name: _plain(inner) for name, inner in node.items()}
    if isinstance(node, list):
        return [_plain(inner) for inner in node]
    if isinstance(node, np.ndarray | np.void):
        names = node.dtype.names
        if names is None:
            return node.tolist()
        if isinstance(node, np.void):
            return {name: _plain(node[name]) for name in names}
        return [_plain(item) for item in node]
    return node.item() if isinstance(node, np.generic) else node
