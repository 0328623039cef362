"""How the values of outputs are written: JSON, or Avro and Protobuf with a schema registry."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.errors import SettingsError
from stepstream.inputs.framing import frame
from stepstream.inputs.registry import Registered, Registry
from stepstream.inputs.schema_parsers import check_packages
from stepstream.inputs.schemas import RegistryAwayError, SchemaError
from stepstream.schemas.outputs import output_schema_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepstream.settings import OutputKind, Settings

    Encode = Callable[[msgspec.Struct], bytes]

__all__ = ["AVRO_TYPE", "JSON", "PROTOBUF_TYPE", "Encoding", "encode_value", "make_encodings"]

AVRO_TYPE, PROTOBUF_TYPE = "application/avro", "application/x-protobuf"
REGISTRY_TIMEOUT_S = 60.0
RETRY_S = 1.0
encode_value = msgspec.json.Encoder().encode
"""Bytes of a value: JSON, fields in their order."""


@dataclass(frozen=True)
class Encoding:
    """How the values of one kind of output are written.

    Attributes
    ----------
    content_type
        Their media type.
    encode
        Bytes of a value.
    """

    content_type: str
    encode: Encode


JSON = Encoding("application/json", encode_value)


def make_encodings(settings: Settings) -> Mapping[OutputKind, Encoding]:
    """How each kind of output is written.

    The schemas of Avro and Protobuf are registered under the name that Confluent's serializers
    use, ``<topic>-value``. A registry that doesn't answer is asked again for a minute.

    Raises
    ------
    SettingsError
        A package isn't installed, the registry refuses a schema, or it doesn't answer.
    """
    written, topics = settings.output.format, settings.topics.outputs
    if written == "json":
        return dict.fromkeys(topics, JSON)
    check_packages(written)
    registry = Registry(settings.registry)
    make = _avro if written == "avro" else _protobuf
    try:
        return {kind: make(kind, registry, topic) for kind, topic in topics.items()}
    finally:
        registry.close()


def _avro(kind: OutputKind, registry: Registry, topic: str) -> Encoding:
    import fastavro  # noqa: PLC0415 - an extra

    text = output_schema_text(kind, "avsc")
    head = frame(_register(registry, topic, Registered("AVRO", text, {})))
    schema = fastavro.parse_schema(json.loads(text))

    def encode(value: msgspec.Struct) -> bytes:
        content = io.BytesIO()
        content.write(head)
        fastavro.schemaless_writer(content, schema, msgspec.structs.asdict(value))
        return content.getvalue()

    return Encoding(AVRO_TYPE, encode)


def _protobuf(kind: OutputKind, registry: Registry, topic: str) -> Encoding:
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415 - an extra

    from stepstream.inputs.proto_files import compile_files, indexes_of  # noqa: PLC0415 - an extra

    text = output_schema_text(kind, "proto")
    number = _register(registry, topic, Registered("PROTOBUF", text, {}))
    (descriptor,) = compile_files(text, {}).message_types_by_name.values()
    head = frame(number) + indexes_of(descriptor)
    message: Any = GetMessageClass(descriptor)

    def encode(value: msgspec.Struct) -> bytes:
        content: bytes = message(**msgspec.structs.asdict(value)).SerializeToString()
        return head + content

    return Encoding(PROTOBUF_TYPE, encode)


def _register(registry: Registry, topic: str, schema: Registered) -> int:
    deadline_s = time.monotonic() + REGISTRY_TIMEOUT_S
    while True:
        try:
            return registry.register(f"{topic}-value", schema)
        except SchemaError as error:
            raise SettingsError(f"output.format: the schema of {topic}: {error}") from None
        except RegistryAwayError as error:
            if time.monotonic() > deadline_s:
                raise SettingsError(f"registry.url: {error}") from None
            time.sleep(RETRY_S)
