"""Dead letters: invalid messages, as they came and with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from stepstream.outputs.records import OutputRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepstream.inputs import InvalidMessage

__all__ = ["Reason", "make_dead_letter", "read_reason"]

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


class Reason(NamedTuple):
    """What the headers of a dead letter say.

    Attributes
    ----------
    code, detail
        What was wrong with the message.
    topic, partition, offset
        Where it was; the offset is -1 if a letter doesn't say it.
    timestamp_ms
        Its record's time, milliseconds since the epoch.
    is_truncated
        Whether the letter has only its first part.
    """

    code: str
    detail: str
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    is_truncated: bool


def read_reason(headers: Iterable[tuple[str, bytes | None]]) -> Reason | None:
    """What the headers of a dead letter say; None if stepstream didn't write them."""
    added = {name: content or b"" for name, content in headers if name.startswith("stepstream-")}
    try:
        return Reason(
            added["stepstream-error"].decode(),
            added.get("stepstream-error-detail", b"").decode(errors="replace"),
            added["stepstream-topic"].decode(),
            int(added["stepstream-partition"]),
            int(added.get("stepstream-offset", b"-1")),
            int(added["stepstream-timestamp"]),
            "stepstream-truncated" in added,
        )
    except (KeyError, ValueError):
        return None
