"""Checkpoints: metadata of a committed offset with which a successor can rebuild windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from stepstream.errors import StreamError
from stepstream.streaming.ranges import UNBOUNDED, Range

__all__ = ["Checkpoint"]

VERSION = 1
NAME = "stepstream"
HELD = "held"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The metadata of a committed offset.

    Attributes
    ----------
    replay_offset
        Oldest input offset that a window still needs: where a successor begins to read.
    replay_ms
        Stream time there, milliseconds since the epoch.
    stream_ms
        Stream time at the committed offset.
    behind_ms
        By how much stream time was behind the consumer's clock then. Earlier releases need it to
        refuse the same readings as too far ahead of the clock in a replay.
    topic_id
        Identity of the input topic; empty where the broker gives none.
    partition_count
        Partitions that the input topic had.
    refused_lead_us
        The smallest lead of a reading that was refused as too far ahead, see `StreamTime`;
        0 if none was, None if an earlier release wrote the checkpoint.
    next_offset
        The offset that it was committed with; None if an earlier release wrote it. Some tools
        change an offset and keep its metadata.
    is_held
        Whether nothing more is read until a person releases the partition. Earlier releases ignore
        this, and read on.
    range
        Which messages of the partition are read.
    """

    replay_offset: int
    replay_ms: int
    stream_ms: int
    behind_ms: int
    topic_id: str
    partition_count: int
    refused_lead_us: int | None = None
    next_offset: int | None = None
    is_held: bool = False
    range: Range = UNBOUNDED

    def encode(self) -> str:
        """The commit metadata: below 200 bytes, and 300 more for a range with an end."""
        fields = (
            f"{NAME}/{VERSION}",
            self.replay_offset,
            self.replay_ms,
            self.stream_ms,
            self.behind_ms,
            self.topic_id,
            self.partition_count,
            "" if self.refused_lead_us is None else self.refused_lead_us,
            "" if self.next_offset is None else self.next_offset,
            *([HELD] if self.is_held else []),
        )
        words = [str(field) or "-" for field in fields]
        return " ".join([*words, self.range.encode()] if self.range.is_bounded else words)

    @classmethod
    def decode(cls, metadata: str) -> Self | None:
        """The checkpoint in commit metadata, or None if another program wrote it.

        Raises
        ------
        StreamError
            A newer release wrote it.
        """
        name, *fields = metadata.split(" ")
        program, _, version = name.partition("/")
        if program != NAME or not version.isdecimal():
            return None
        if int(version) > VERSION:
            raise StreamError(
                f"the committed offsets have metadata of version {version}, this release reads up "
                f"to {VERSION}: run the release that wrote them, or a newer one"
            )
        try:
            range_ = Range.decode(fields.pop() if fields[-1:] and fields[-1][:1] == "{" else "")
            replay_offset, replay_ms, stream_ms, behind_ms = map(int, fields[:4])
            topic_id, partition_count, *added = fields[4:]
            lead, next_offset = [*added, "-", "-"][:2]
            is_held = HELD in added[2:]
            return cls(
                replay_offset,
                replay_ms,
                stream_ms,
                behind_ms,
                "" if topic_id == "-" else topic_id,
                int(partition_count),
                int(lead) if lead.isdecimal() else None,
                int(next_offset) if next_offset.isdecimal() else None,
                is_held,
                range_,
            )
        except ValueError:
            return None

    def belongs_to(self, offset: int) -> bool:
        """Whether it was committed with this offset."""
        return self.next_offset in {None, offset}
