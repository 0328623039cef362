"""Messages that name their schema, as the serializers of Confluent write them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.schemas import SchemaError
from stepstream.inputs.varints import read_varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.inputs.alike import Alike
    from stepstream.inputs.registry import Registered, Registry
    from stepstream.inputs.strides import ItemLayout

    Compile = Callable[[Registered], "Alike"]

__all__ = ["HEADER_BYTES", "FramedParser", "frame", "read_indexes"]

HEADER_BYTES = 5
"""A zero byte, and four with the schema's id, the highest first."""
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
        reader = self._readers.get(value[:HEADER_BYTES])
        if reader is None:
            _check_header(value)
            raise RuntimeError(f"schema {_schema_id(value)} was not fetched")
        if isinstance(reader, _Unknown):
            raise InvalidMessage(
                ErrorCode.UNKNOWN_SCHEMA, f"schema {_schema_id(value)}: {reader.reason}"
            )
        return reader.parse(value[HEADER_BYTES:])

    def find_layout(self, value: bytes) -> ItemLayout | None:
        """See `Alike.find_layout`."""
        reader = self._readers.get(value[:HEADER_BYTES])
        if reader is None or isinstance(reader, _Unknown):
            return None
        found = reader.find_layout(value[HEADER_BYTES:])
        return None if found is None else found.behind(value[:HEADER_BYTES])

    def close(self) -> None:
        """Close the connections to the registry."""
        self._registry.close()

    def lacking(self, values: Sequence[bytes | None]) -> dict[int, int]:
        """See `Schemas.lacking`."""
        heads = {value[:HEADER_BYTES] for value in values if value is not None}
        now_s = self._monotonic()
        missing = {head for head in heads if _is_framed(head) and not self._knows(head, now_s)}
        if not missing:
            return {}
        found: dict[int, int] = {}
        for row, value in enumerate(values):
            if value is not None and value[:HEADER_BYTES] in missing:
                found.setdefault(_schema_id(value), row)
        return found

    def _knows(self, head: bytes, now_s: float) -> bool:
        reader = self._readers.get(head)
        return reader is not None and not (isinstance(reader, _Unknown) and reader.until_s <= now_s)

    def fetch(self, schema_id: int) -> Alike | _Unknown:
        """See `Schemas.fetch`."""
        try:
            return self._compile(self._registry.fetch(schema_id))
        except SchemaError as error:
            return _Unknown(str(error), self._monotonic() + UNKNOWN_S)

    def pending(self, schema_ids: Sequence[int]) -> list[int]:
        """See `Schemas.pending`."""
        now_s = self._monotonic()
        return [number for number in schema_ids if not self._knows(frame(number), now_s)]

    def admit(self, schema_id: int, fetched: Any) -> bool:
        """See `Schemas.admit`."""
        head = frame(schema_id)
        self._readers.pop(head, None)
        self._readers[head] = fetched
        return not isinstance(fetched, _Unknown)

    def forget(self) -> None:
        """See `Schemas.forget`."""
        while len(self._readers) > MAX_READERS:
            del self._readers[next(iter(self._readers))]


def _is_framed(value: bytes) -> bool:
    return len(value) >= HEADER_BYTES and value[0] == 0


def frame(schema_id: int) -> bytes:
    """What is in front of a message with a schema."""
    return b"\0" + schema_id.to_bytes(4)


def _schema_id(value: bytes) -> int:
    return int.from_bytes(value[1:HEADER_BYTES])


def _check_header(value: bytes) -> None:
    if len(value) < HEADER_BYTES:
        raise InvalidMessage(
            ErrorCode.INVALID_ENCODING,
            f"{len(value)} bytes, too few for the id of a schema",
        )
    if value[0]:
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
