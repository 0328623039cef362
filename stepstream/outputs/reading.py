"""Records that were published, read again."""

from __future__ import annotations

import io
import json
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import msgspec

from stepstream.inputs.framing import HEADER_BYTES
from stepstream.inputs.schemas import check_packages
from stepstream.outputs.encoding import AVRO_TYPE, PROTOBUF_TYPE
from stepstream.schemas.outputs import output_schema_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepstream.settings import OutputKind

    Read = Callable[[bytes], dict[str, Any]]

__all__ = ["DEAD_LETTER", "PublishedRecord", "UnreadableValueError", "read_value"]

DEAD_LETTER = "dead letter"
MAGIC = b"\0"
"""How values begin that name their schema."""

_read_json = msgspec.json.Decoder(dict[str, Any]).decode


class UnreadableValueError(ValueError):
    """A value is in no known format."""


def read_value(
    kind: OutputKind, value: bytes, headers: Iterable[tuple[str, bytes | None]]
) -> dict[str, Any]:
    """The fields of an event, a minute, a walk or a count, in the format that its headers name.

    Avro and Protobuf are read by the schemas of this release, without a registry.

    Raises
    ------
    SettingsError
        A package isn't installed.
    UnreadableValueError
        It is in no known format.
    """
    content_type = (dict(headers).get("content-type") or b"").decode(errors="replace")
    read = _reader(kind, content_type)
    if read is not _read_json and value[:1] != MAGIC:
        raise UnreadableValueError(f"no {kind}: its schema is not named")
    try:
        return read(value)
    except Exception as error:  # noqa: BLE001 - every library has errors of its own
        raise UnreadableValueError(f"no {kind}: {error}") from None


@cache
def _reader(kind: OutputKind, content_type: str) -> Read:
    if content_type == AVRO_TYPE:
        check_packages("avro")
        return _avro(kind)
    if content_type == PROTOBUF_TYPE:
        check_packages("protobuf")
        return _protobuf(kind)
    return _read_json


def _avro(kind: OutputKind) -> Read:
    import fastavro  # noqa: PLC0415 - an extra

    schema = fastavro.parse_schema(json.loads(output_schema_text(kind, "avsc")))

    def read(value: bytes) -> dict[str, Any]:
        content = io.BytesIO(value[HEADER_BYTES:])
        return cast("dict[str, Any]", fastavro.schemaless_reader(content, schema, None))

    return read


def _protobuf(kind: OutputKind) -> Read:
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415 - an extra

    from stepstream.inputs.proto_files import compile_files  # noqa: PLC0415 - an extra

    text = output_schema_text(kind, "proto")
    (descriptor,) = compile_files(text, {}).message_types_by_name.values()
    made: Any = GetMessageClass(descriptor)

    def read(value: bytes) -> dict[str, Any]:
        # Behind the head stands the place of the type in its file: the first, one zero.
        if value[HEADER_BYTES : HEADER_BYTES + 1] != b"\0":
            raise ValueError("it is of another type")
        message = made.FromString(value[HEADER_BYTES + 1 :])
        return {field.name: getattr(message, field.name) for field in descriptor.fields}

    return read


class PublishedRecord(NamedTuple):
    """A record of any kind.

    Attributes
    ----------
    kind
        What it is: ``step``, ``minute``, ``walk``, ``count``, or `DEAD_LETTER`.
    topic, partition, offset
        Where it is.
    time_ms
        Its time, milliseconds since the epoch; None if it has none.
    key, value, headers
        Its content.
    """

    kind: str
    topic: str
    partition: int
    offset: int
    time_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def source(self) -> str:
        """The topic of the readings that it was made from; empty if it doesn't say it."""
        contents = [content for name, content in self.headers if name == "stepstream-topic"]
        return (contents[-1] or b"").decode(errors="replace") if contents else ""

    def read(self) -> dict[str, Any] | None:
        """The fields of its value; None for a dead letter, a tombstone, or an unknown format."""
        if self.kind == DEAD_LETTER or self.value is None:
            return None
        try:
            return read_value(cast("OutputKind", self.kind), self.value, self.headers)
        except UnreadableValueError:
            return None

    def device_of(self, fields: dict[str, Any] | None) -> str:
        """Its device: as its value says, given as `fields`, or its key."""
        named = None if fields is None else fields.get("device_id")
        return named if isinstance(named, str) else (self.key or b"").decode(errors="replace")
