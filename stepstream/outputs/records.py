"""One type for all that is published, from where it is made to the transaction."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["OutputRecord"]


class OutputRecord(NamedTuple):
    """A Kafka record to be published.

    Attributes
    ----------
    topic
        Where to.
    key, value
        Its content; a value of None is a tombstone.
    headers
        Name and content of each, in their order; a name may come more than once.
    partition
        The partition, or None where the key decides.
    time_ms
        The record's time, milliseconds since the epoch; None for that of its publication.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None
    time_ms: int | None = None

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        _, key, value, headers, _, _ = self
        size = len(key or b"") + len(value or b"")
        for name, content in headers:
            length = len(name) if name.isascii() else len(name.encode())
            size += length + len(content or b"")
        return size
