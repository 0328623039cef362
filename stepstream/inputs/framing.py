"""Messages that name their schema, as the serializers of Confluent write them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.schemas import SchemaError
from stepstream.inputs.varints import read_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.inputs.alike import Alike
    from stepstream.inputs.columns import ReadHeaders
    from stepstream.inputs.registry import Registered, Registry
    from stepstream.inputs.schemas import SchemaId
    from stepstream.inputs.strides import ItemLayout

    Compile = Callable[[Registered], "Alike"]

__all__ = ["HEADER_BYTES", "FramedParser", "frame", "join_headers", "read_indexes"]

HEADER_BYTES = 5
"""A zero byte, and four with the schema's id, the highest first."""
GUID_HEADER_BYTES = 17
"""A byte 1, and the schema's GUID; so Kafka's header names it if the message's head doesn't."""
KAFKA_HEADER = "__value_schema_id"
"""The header that says what would be in front of the message."""
MAX_READERS = 1_000
"""Schemas that are kept ready, and ids that are known to have none."""
UNKNOWN_S = 60.0
"""Time for which an id is taken to have no schema; then the registry is asked again."""
MAX_INDEXES = 32


class _Unknown(NamedTuple):
    """An id without a usable schema, and until when the registry is not asked again."""

    reason: str
    until_s: float


class FramedParser:
    """Parses messages that begin with the id of their schema.

    Parameters
    ----------
    registry
        Has the schemas.
    compile_schema
        Makes a parser of what follows the id; it raises a `SchemaError` if it can't.
    monotonic
        The clock, seconds.
    """

    def __init__(
        self,
        registry: Registry,
        compile_schema: Compile,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._compile = compile_schema
        self._monotonic = monotonic
        self._readers: dict[bytes, Alike | _Unknown] = {}
        """By the five bytes."""

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`.

        Raises
        ------
        RuntimeError
            The schema was not fetched, see `Schemas.lacking`.
        """
        head = _head(value)
        reader = self._readers.get(head)
        if reader is None:
            _check_header(value)
            raise RuntimeError(f"schema {_schema_id(head)} was not fetched")
        if isinstance(reader, _Unknown):
            raise InvalidMessage(
                ErrorCode.UNKNOWN_SCHEMA, f"schema {_schema_id(head)}: {reader.reason}"
            )
        return reader.parse(value[len(head) :])

    def find_layout(self, value: bytes) -> ItemLayout | None:
        """See `Alike.find_layout`."""
        head = _head(value)
        reader = self._readers.get(head)
        if reader is None or isinstance(reader, _Unknown):
            return None
        found = reader.find_layout(value[len(head) :])
        return None if found is None else found.behind(head)

    def close(self) -> None:
        """Close the connections to the registry."""
        self._registry.close()

    def lacking(self, values: Sequence[bytes | None]) -> dict[SchemaId, int]:
        """See `Schemas.lacking`."""
        heads = {_head(value) for value in values if value is not None}
        now_s = self._monotonic()
        missing = {head for head in heads if _is_framed(head) and not self._knows(head, now_s)}
        if not missing:
            return {}
        found: dict[SchemaId, int] = {}
        for row, value in enumerate(values):
            if value is not None and (head := _head(value)) in missing:
                found.setdefault(_schema_id(head), row)
        return found

    def _knows(self, head: bytes, now_s: float) -> bool:
        reader = self._readers.get(head)
        return reader is not None and not (isinstance(reader, _Unknown) and reader.until_s <= now_s)

    def fetch(self, schema_id: SchemaId) -> Alike | _Unknown:
        """See `Schemas.fetch`."""
        try:
            return self._compile(self._registry.fetch(schema_id))
        except SchemaError as error:
            return _Unknown(str(error), self._monotonic() + UNKNOWN_S)

    def pending(self, schema_ids: Sequence[SchemaId]) -> list[SchemaId]:
        """See `Schemas.pending`."""
        now_s = self._monotonic()
        return [number for number in schema_ids if not self._knows(frame(number), now_s)]

    def admit(self, schema_id: SchemaId, fetched: Any) -> bool:
        """See `Schemas.admit`."""
        head = frame(schema_id)
        self._readers.pop(head, None)
        self._readers[head] = fetched
        return not isinstance(fetched, _Unknown)

    def forget(self) -> None:
        """See `Schemas.forget`."""
        while len(self._readers) > MAX_READERS:
            del self._readers[next(iter(self._readers))]


def frame(schema_id: SchemaId) -> bytes:
    """What is in front of a message with a schema."""
    return b"\0" + schema_id.to_bytes(4) if isinstance(schema_id, int) else b"\1" + schema_id.bytes


def join_headers(values: Sequence[bytes | None], headers: ReadHeaders) -> list[bytes | None]:
    """Messages with their schemas in front of them, also those whose Kafka header names it.

    Confluent's serializers write it there if they are told to.
    """
    found = list(values)
    for row, value in enumerate(values):
        for name, content in headers(row) if value is not None else ():
            if name == KAFKA_HEADER:
                found[row] = (content or b"") + (value or b"")
                break
    return found


def _head(value: bytes) -> bytes:
    return value[: GUID_HEADER_BYTES if value[:1] == b"\1" else HEADER_BYTES]


def _is_framed(head: bytes) -> bool:
    return len(head) == (GUID_HEADER_BYTES if head[:1] == b"\1" else HEADER_BYTES) and head[0] < 2


def _schema_id(head: bytes) -> SchemaId:
    return UUID(bytes=head[1:]) if head[0] else int.from_bytes(head[1:])


def _check_header(value: bytes) -> None:
    if len(value) < (GUID_HEADER_BYTES if value[:1] == b"\1" else HEADER_BYTES):
        raise InvalidMessage(
            ErrorCode.INVALID_ENCODING,
            f"{len(value)} bytes, too few for the id of a schema",
        )
    if value[0] > 1:
        raise InvalidMessage(
            ErrorCode.INVALID_ENCODING,
            f"the first byte is {value[0]}; with a schema registry, a 0 and the schema's id come "
            "first, as Confluent's serializers write them",
        )


def read_indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Which message type of a Protobuf file a message has, and where the message begins.

    Returns
    -------
    indexes, position
        The place of a type among those of its file, then among those inside of it, and so on.

    Raises
    ------
    InvalidMessage
        The bytes don't say it.
    """
    indexes: list[int] = []
    try:
        count, position = _signed(value, 0)
        for _ in range(min(count, MAX_INDEXES)):
            index, position = _signed(value, position)
            indexes.append(index)
    except (IndexError, ValueError):
        count, position = -1, 0
    if not 0 <= count <= MAX_INDEXES:
        raise InvalidMessage(
            ErrorCode.INVALID_ENCODING, "behind the schema's id, no message type is named"
        )
    return tuple(indexes) or (0,), position


def _signed(value: bytes, position: int) -> tuple[int, int]:
    folded, position = read_varint(value, position)
    return (folded >> 1) ^ -(folded & 1), position
