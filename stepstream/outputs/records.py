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
        size = len(self.key or b"") + len(self.value or b"")
        for name, content in self.headers:
            size += len(name.encode()) + len(content or b"")
        return size
