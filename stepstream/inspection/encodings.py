"""What the bytes of messages look like, and the documents in them."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from stepstream.inputs.framing import HEADER_BYTES
from stepstream.inputs.parsers import CborParser, JsonParser
from stepstream.inputs.senml import SenmlParser
from stepstream.inputs.varints import read_varint

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Encoding", "encoding_of", "parse", "schema_id"]

LOOKED_AT = 200
"""Messages by which the encoding is judged."""
MAX_FIELDS = 10_000
BASE = {"bn", "bt", "bu", "n"}
"""What the first record of a SenML pack may have."""


class Encoding(Enum):
    """What a message's bytes are; the value says it to people."""

    JSON = "JSON"
    JSON_SCHEMA = "JSON behind the id of a schema"
    SENML = "SenML"
    AVRO = "Avro behind the id of a schema"
    FRAMED_PROTOBUF = "Protobuf behind the id of a schema"
    PROTOBUF = "Protobuf"
    MSGPACK = "MessagePack"
    CBOR = "CBOR"
    AVRO_FILE = "a whole Avro file, with its header, in each message"
    AVRO_SINGLE_OBJECT = "Avro's single-object encoding"
    GZIP = "compressed with gzip"
    TEXT = "text that is not JSON"
    NOTHING = "without a value"
    UNKNOWN = "in an unknown encoding"

    @property
    def format(self) -> str | None:
        """The setting `input.format` that reads it."""
        return _FORMATS.get(self)

    @property
    def is_framed(self) -> bool:
        """Whether a message names its schema."""
        return self in {Encoding.JSON_SCHEMA, Encoding.AVRO, Encoding.FRAMED_PROTOBUF}


_FORMATS = {
    Encoding.JSON: "json",
    Encoding.JSON_SCHEMA: "json-schema",
    Encoding.SENML: "senml",
    Encoding.AVRO: "avro",
    Encoding.FRAMED_PROTOBUF: "protobuf",
    Encoding.PROTOBUF: "protobuf",
    Encoding.MSGPACK: "msgpack",
    Encoding.CBOR: "cbor",
}
_BEGINNINGS = {
    b"\x1f\x8b": Encoding.GZIP,
    b"Obj\x01": Encoding.AVRO_FILE,
    b"\xc3\x01": Encoding.AVRO_SINGLE_OBJECT,
}


def encoding_of(values: Sequence[bytes | None]) -> Encoding:
    """What most of some messages look like."""
    step = max(1, len(values) // LOOKED_AT)
    return Counter(map(_encoding, values[::step])).most_common(1)[0][0]


def schema_id(value: bytes) -> int:
    """The id of the schema that a message names."""
    return int.from_bytes(value[1:HEADER_BYTES])


def parse(encoding: Encoding, value: bytes | None) -> Any:
    """The document in a message, or None: it has none, or only its schema says what is in it."""
    if value is None:
        return None
    try:
        if encoding in {Encoding.JSON, Encoding.JSON_SCHEMA}:
            return orjson.loads(value[HEADER_BYTES:] if value[:1] == b"\0" else value)
        if encoding is Encoding.SENML:
            return SenmlParser(JsonParser()).parse(value)
        if encoding is Encoding.MSGPACK:
            return msgspec.msgpack.decode(value)
        if encoding is Encoding.CBOR:
            return CborParser().parse(value)
    except Exception:  # noqa: BLE001 - what it is is being tried out
        return None
    return None


def _encoding(value: bytes | None) -> Encoding:
    if not value:
        return Encoding.NOTHING
    if value[0] == 0 and len(value) > HEADER_BYTES:
        return _framed_encoding(value)
    for beginning, encoding in _BEGINNINGS.items():
        if value.startswith(beginning):
            return encoding
    if _is_pack(parse(Encoding.JSON, value)):
        return Encoding.SENML
    for encoding in (Encoding.JSON, Encoding.MSGPACK, Encoding.CBOR):
        if _is_document(parse(encoding, value)):
            return encoding
    if _is_protobuf(value):
        return Encoding.PROTOBUF
    try:
        return Encoding.TEXT if value.decode().isprintable() else Encoding.UNKNOWN
    except UnicodeDecodeError:
        return Encoding.UNKNOWN


def _is_pack(parsed: Any) -> bool:
    """Whether it is a list of records with names and values."""
    if not isinstance(parsed, list) or not parsed or not isinstance(parsed[0], dict):
        return False
    first, last = parsed[0], parsed[-1]
    return (
        isinstance(last, dict) and {"n", "v"} <= last.keys() and not first.keys().isdisjoint(BASE)
    )


def _framed_encoding(value: bytes) -> Encoding:
    if _is_document(parse(Encoding.JSON, value[HEADER_BYTES:])):
        return Encoding.JSON_SCHEMA
    # The place of the message's type comes first; 0 is the first type of the schema.
    if value[HEADER_BYTES] == 0 and _is_protobuf(value[HEADER_BYTES + 1 :]):
        return Encoding.FRAMED_PROTOBUF
    return Encoding.AVRO


def _is_document(parsed: Any) -> bool:
    return isinstance(parsed, dict | list)


def _is_protobuf(value: bytes) -> bool:
    """Whether all bytes are fields of a Protobuf message."""
    position, fields = 0, 0
    try:
        while position < len(value) and fields < MAX_FIELDS:
            tag, position = read_varint(value, position)
            number, kind = tag >> 3, tag & 7
            if not 0 < number < 1 << 29 or kind in {3, 4, 6, 7}:
                return False
            if kind == 0:
                _, position = read_varint(value, position)
            elif kind == 2:
                length, position = read_varint(value, position)
                position += length
            else:
                position += 8 if kind == 1 else 4
            fields += 1
    except (IndexError, ValueError):
        return False
    return fields > 0 and position == len(value)
