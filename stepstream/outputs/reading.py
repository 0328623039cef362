"""Records that were published, read again."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

__all__ = ["DEAD_LETTER", "PublishedRecord", "UnreadableValueError", "read_value"]

DEAD_LETTER = "dead letter"

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class UnreadableValueError(ValueError):
    """A value is in no known format."""


def read_value(value: bytes) -> dict[str, Any]:
    """The fields of an event, a minute, a walk or a count, whatever its format.

    Raises
    ------
    UnreadableValueError
        It is in no known format.
    """
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableValueError(str(error)) from None


class PublishedRecord(NamedTuple):
    """A record of any kind.

    Attributes
    ----------
    kind
        What it is: ``event``, ``minute``, ``walk``, ``count``, or `DEAD_LETTER`.
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
            return read_value(self.value)
        except UnreadableValueError:
            return None

    def device_of(self, fields: dict[str, Any] | None) -> str:
        """Its device: as its value says, given as `fields`, or its key."""
        named = None if fields is None else fields.get("device_id")
        return named if isinstance(named, str) else (self.key or b"").decode(errors="replace")
