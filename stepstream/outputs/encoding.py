"""How the values of outputs are written: JSON, or Avro and Protobuf with a schema registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from stepstream.inputs.schemas import check_packages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stepstream.settings import OutputKind, Settings

    Encode = Callable[[msgspec.Struct], bytes]

__all__ = ["AVRO_TYPE", "JSON", "PROTOBUF_TYPE", "Encoding", "encode_value", "make_encodings"]

AVRO_TYPE, PROTOBUF_TYPE = "application/avro", "application/x-protobuf"
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
    # The client of the registry takes a tenth of a second to import.
    from stepstream.outputs.schema_encodings import register_encodings  # noqa: PLC0415

    return register_encodings(written, settings.registry, topics)
