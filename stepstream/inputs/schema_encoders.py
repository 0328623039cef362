"""Encoders of the formats with a schema: a document is made to fit it, and a library writes it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.inputs.framing import frame
from stepstream.inputs.registry import Registered, Registry
from stepstream.inputs.schema_parsers import UNITS_NS, from_json, read_file
from stepstream.inputs.schemas import SchemaError, check_packages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.descriptor import Descriptor

    from stepstream.settings import InputSettings, RegistrySettings

    Encode = Callable[[Any], bytes]

__all__ = ["make_schema_encoder"]

KINDS = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}
_ZEROS: Mapping[str, Any] = {
    "null": None, "boolean": False, "int": 0, "long": 0, "float": 0.0, "double": 0.0, "string": "",
    "bytes": b"",
}  # fmt: skip
"""What is written into a field that has no value and no default."""


def make_schema_encoder(
    settings: InputSettings, registry: RegistrySettings, subject: str
) -> Encode:
    """The encoder of Avro, Protobuf or JSON with a schema.

    Raises
    ------
    SettingsError
        A package isn't installed, or the schema's file can't be read.
    SchemaError
        The schema can't be used.
    RegistryAwayError
        The registry can't be asked.
    """
    check_packages(settings.format)
    content = None if settings.schema_ is None else read_file(settings.schema_)
    if registry.url is None:
        return _make_unframed(settings, content or b"")
    client = Registry(registry)
    try:
        if content is None:
            number, registered = client.fetch_latest(subject)
        else:
            registered = _registered(settings, content)
            number = client.register(subject, registered)
    finally:
        client.close()
    if registered.kind != KINDS[settings.format]:
        raise SchemaError(f"it is of the type {registered.kind}")
    head = frame(number)
    if settings.format == "json-schema":
        encode: Encode = msgspec.json.Encoder().encode
    elif settings.format == "avro":
        encode = _make_avro(settings, registered.text, registered.references)
    else:
        from stepstream.inputs.proto_files import compile_files, indexes_of  # noqa: PLC0415

        file = compile_files(registered.text, registered.references)
        descriptor = _type_of(file, settings.message_type)
        head += indexes_of(descriptor)
        encode = ProtobufEncoder(descriptor, _unit_ns(settings)).encode
    return lambda document: head + encode(document)


def _make_unframed(settings: InputSettings, content: bytes) -> Encode:
    if settings.format == "json-schema":
        return msgspec.json.Encoder().encode
    if settings.format == "avro":
        return _make_avro(settings, content, {})
    from stepstream.inputs.protobuf import find_message, load_descriptors  # noqa: PLC0415 - an extra

    descriptor = find_message(load_descriptors(content)[0], settings.message_type or "")
    return ProtobufEncoder(descriptor, _unit_ns(settings)).encode


def _make_avro(settings: InputSettings, text: str | bytes, references: Mapping[str, str]) -> Encode:
    from stepstream.inputs.avro import parse_schema  # noqa: PLC0415 - an extra

    named: dict[str, Any] = {}
    for referred in references.values():
        parse_schema(from_json(referred), named)
    return AvroEncoder(parse_schema(from_json(text), named), named, _unit_ns(settings)).encode


def _registered(settings: InputSettings, content: bytes) -> Registered:
    """A schema's file, as registries have it."""
    kind = KINDS[settings.format]
    if settings.format != "protobuf":
        return Registered(kind, content.decode(errors="replace"), {})
    from stepstream.inputs.protobuf import find_message, load_descriptors  # noqa: PLC0415 - an extra

    file = find_message(load_descriptors(content)[0], settings.message_type or "").file
    others = [one.name for one in file.dependencies if not one.name.startswith("google/protobuf/")]
    if others:
        raise SchemaError(f"it imports {others[0]}: register it, and leave input.schema out")
    # As Confluent's clients do it.
    return Registered(kind, base64.b64encode(file.serialized_pb).decode(), {})


def _type_of(file: Any, name: str | None) -> Descriptor:
    """A message type of a file: the named one, or the first."""
    from stepstream.inputs.protobuf import find_message  # noqa: PLC0415 - an extra

    if name is not None:
        return find_message(file.pool, name)
    first: Descriptor | None = next(iter(file.message_types_by_name.values()), None)
    if first is None:
        raise SchemaError("it has no message type")
    return first


def _unit_ns(settings: InputSettings) -> int | None:
    return UNITS_NS.get(settings.time_unit)


def _in_ticks(value: float | str, unit_ns: int | None, tick_ns: int) -> int:
    """A time in a document as a number of ticks."""
    if unit_ns is None or isinstance(value, str):
        raise SchemaError("it has times that are numbers: set input.time_unit")
    if isinstance(value, int):
        return value * unit_ns // tick_ns
    # Times have whole microseconds.
    return round(value * unit_ns / 1000) * 1000 // tick_ns


def _scalar(name: str, value: Any) -> Any:
    if isinstance(value, list):
        raise SchemaError(f"{name} is one number there: write one reading a message (batch 1)")
    if isinstance(value, dict):
        raise SchemaError(f"{name} has no field {next(iter(value))!r} there")
    return value


def _integer(value: Any) -> int:
    return value if isinstance(value, int) else round(float(value))


def _check_names(document: Any, known: Any, where: str) -> None:
    if not isinstance(document, dict):
        raise SchemaError(f"{where} is an object there")
    for name in document:
        if name not in known:
            raise SchemaError(f"{where} has no field {name!r}")


class AvroEncoder:
    """Encodes documents in Avro; fields that a document doesn't have are zero or empty.

    Parameters
    ----------
    schema, named
        As `parse_schema` returns it, and the schemas that it refers to.
    unit_ns
        Unit of times in the documents.
    """

    def __init__(self, schema: Any, named: Mapping[str, Any], unit_ns: int | None) -> None:
        import fastavro  # noqa: PLC0415 - an extra

        self._write = fastavro.schemaless_writer
        self._schema = schema
        self._named = named
        self._unit_ns = unit_ns

    def encode(self, document: Any) -> bytes:
        """The bytes of a message.

        Raises
        ------
        SchemaError
            The document can't be made to fit.
        """
        file = io.BytesIO()
        self._write(file, self._schema, self._fit("the message", self._schema, document))
        return file.getvalue()

    def _fit(self, name: str, schema: Any, value: Any) -> Any:  # noqa: C901 - a case for each type
        if isinstance(schema, str):
            schema = self._named.get(schema, {"type": schema})
        if isinstance(schema, list):
            if value is None and "null" in schema:
                return None
            return self._fit(name, next(one for one in schema if one != "null"), value)
        kind = schema["type"]
        match kind:
            case "record" | "error":
                return self._record(name, schema, {} if value is None else value)
            case "array":
                if value is None:
                    return []
                items = value if isinstance(value, list) else [value]
                return [self._fit(name, schema["items"], one) for one in items]
            case "map":
                pairs = dict(value or {}).items()
                return {key: self._fit(name, schema["values"], one) for key, one in pairs}
            case "enum":
                return schema["symbols"][0] if value is None else value
            case "fixed":
                return bytes(schema["size"]) if value is None else value
            case str():
                return _ZEROS[kind] if value is None else self._primitive(name, schema, value)
            case _:
                return self._fit(name, kind, value)

    def _record(self, name: str, schema: Any, document: Any) -> dict[str, Any]:
        fields = {field["name"]: field for field in schema["fields"]}
        _check_names(document, fields, name)
        return {
            field: self._fit(field, given["type"], document.get(field))
            for field, given in fields.items()
            if field in document or "default" not in given
        }

    def _primitive(self, name: str, schema: Any, value: Any) -> Any:
        from stepstream.inputs.avro import TICKS_NS  # noqa: PLC0415 - an extra

        value = _scalar(name, value)
        kind, tick_ns = schema["type"], TICKS_NS.get(schema.get("logicalType"))
        if kind == "long" and tick_ns is not None:
            return _in_ticks(value, self._unit_ns, tick_ns)
        if kind in {"int", "long"}:
            return _integer(value)
        if kind in {"float", "double"}:
            return float(value)
        return str(value) if kind == "string" else value


class ProtobufEncoder:
    """Encodes documents in Protobuf.

    Parameters
    ----------
    descriptor
        The message type.
    unit_ns
        Unit of times in the documents.
    """

    def __init__(self, descriptor: Descriptor, unit_ns: int | None) -> None:
        from google.protobuf import message_factory  # noqa: PLC0415 - an extra

        self._class = message_factory.GetMessageClass(descriptor)
        self._unit_ns = unit_ns

    def encode(self, document: Any) -> bytes:
        """The bytes of a message.

        Raises
        ------
        SchemaError
            The document can't be made to fit.
        """
        return self._class(**self._fit(self._class.DESCRIPTOR, document)).SerializeToString()

    def _fit(self, descriptor: Any, document: Any) -> dict[str, Any]:
        known = descriptor.fields_by_name
        _check_names(document, known, descriptor.full_name)
        return {name: self._field(known[name], value) for name, value in document.items()}

    def _field(self, field: Any, value: Any) -> Any:
        if not field.is_repeated:
            return self._value(field, value)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, content = (field.message_type.fields_by_name[one] for one in ("key", "value"))
            return {self._value(key, k): self._value(content, v) for k, v in dict(value).items()}
        return [self._value(field, one) for one in (value if isinstance(value, list) else [value])]

    def _value(self, field: Any, value: Any) -> Any:
        if field.message_type is not None:
            if field.message_type.full_name != "google.protobuf.Timestamp":
                return self._fit(field.message_type, value)
            seconds, nanos = divmod(_in_ticks(value, self._unit_ns, 1), 10**9)
            return {"seconds": seconds, "nanos": nanos}
        value = _scalar(field.name, value)
        if field.cpp_type in {field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT}:
            return float(value)
        if field.cpp_type == field.CPPTYPE_STRING:
            return str(value)
        return value if field.cpp_type == field.CPPTYPE_ENUM else _integer(value)
