"""The values of outputs as Avro or Protobuf, whose schemas are in a registry."""

from __future__ import annotations

import io
import json
import time
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.errors import SettingsError
from stepstream.inputs.framing import frame
from stepstream.inputs.registry import Registered, Registry
from stepstream.inputs.schemas import RegistryAwayError, SchemaError
from stepstream.outputs.encoding import AVRO_TYPE, PROTOBUF_TYPE, Encoding
from stepstream.schemas.outputs import output_schema_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from stepstream.settings import OutputKind, RegistrySettings

__all__ = ["register_encodings"]

TIMEOUT_S = 60.0
"""Of a registry that doesn't answer."""
RETRY_S = 1.0


def register_encodings(
    written: Literal["avro", "protobuf"],
    settings: RegistrySettings,
    topics: Mapping[OutputKind, str],
) -> Mapping[OutputKind, Encoding]:
    """Register the schemas of all topics; see `make_encodings`."""
    registry = Registry(settings)
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
    deadline_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return registry.register(f"{topic}-value", schema)
        except SchemaError as error:
            raise SettingsError(f"output.format: the schema of {topic}: {error}") from None
        except RegistryAwayError as error:
            if time.monotonic() > deadline_s:
                raise SettingsError(f"registry.url: {error}") from None
            time.sleep(RETRY_S)
