"""Dead letters: invalid messages, as they came and with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.outputs.records import OutputRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepstream.inputs import InvalidMessage

__all__ = ["make_dead_letter"]

MAX_DEAD_LETTER_BYTES = 900_000
TRUNCATED_BYTES = 64 << 10


def make_dead_letter(  # noqa: PLR0913 - all that a record is
    key: bytes | None,
    value: bytes | None,
    headers: Iterable[tuple[str, bytes | None]],
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    error: InvalidMessage,
    dead_letter_topic: str,
) -> OutputRecord:
    """The dead letter of an invalid message: as it came, with headers that say what was wrong.

    A message so large that no topic would accept it is cut to its first 64 KiB; if its headers
    alone are that large, they are left out.

    Parameters
    ----------
    key, value, headers
        The message.
    topic, partition, offset
        Where it was.
    timestamp_ms
        Its record's time, milliseconds since the epoch.
    error
        What is wrong with it.
    dead_letter_topic
        Where the dead letter is published.
    """
    kept = tuple(headers)
    added: list[tuple[str, bytes | None]] = [
        ("stepstream-error", error.code.encode()),
        ("stepstream-error-detail", error.detail.encode()),
        ("stepstream-topic", topic.encode()),
        ("stepstream-partition", str(partition).encode()),
        ("stepstream-offset", str(offset).encode()),
        ("stepstream-timestamp", str(timestamp_ms).encode()),
    ]
    header_bytes = sum(len(name.encode()) + len(content or b"") + 8 for name, content in kept)
    size = len(key or b"") + len(value or b"") + header_bytes
    if size > MAX_DEAD_LETTER_BYTES:
        added.append(("stepstream-truncated", str(size).encode()))
        value = value and value[:TRUNCATED_BYTES]
        key = key and key[:TRUNCATED_BYTES]
        if header_bytes > MAX_DEAD_LETTER_BYTES // 2:
            kept = ()
    return OutputRecord(dead_letter_topic, key, value, (*kept, *added))
