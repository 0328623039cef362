"""Where Kafka has a partition, and where it starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stepstream.streaming.ranges import UNBOUNDED, Range

if TYPE_CHECKING:
    from datetime import datetime

    from stepstream.streaming.checkpoints import Checkpoint
    from stepstream.streaming.cluster import TopicIdentity

    StartAt = Literal["earliest", "latest"] | datetime

__all__ = ["Position", "Start", "StartAt", "StartRules"]


@dataclass(frozen=True)
class Position:
    """What Kafka says of an input partition.

    Attributes
    ----------
    topic
        Identity of its topic.
    committed_offset, metadata
        What the group has committed; -1 and empty if nothing.
    first_offset, end_offset
        First offset that can be read, and the one behind the last.
    state_end
        End of its partition of the state topic, read after the committed offset.
    timed_offset
        First offset at or after the time that a new group begins at, or the end if there is none;
        None if nobody needs it.
    """

    topic: TopicIdentity
    committed_offset: int
    metadata: str
    first_offset: int
    end_offset: int
    state_end: int
    timed_offset: int | None = None


@dataclass(frozen=True)
class StartRules:
    """How a partition starts.

    Attributes
    ----------
    start_at
        Where it starts if it has no committed offset; a time is that of records. None if nothing
        of it is read then.
    may_be_recreated
        Whether its topic, if it was created again, is read without a setting that accepts it.
    """

    start_at: StartAt | None
    may_be_recreated: bool = False


@dataclass(frozen=True)
class Start:
    """Where a partition starts.

    Attributes
    ----------
    offset
        Results of messages below it are published.
    checkpoint
        How windows are rebuilt, if there is anything to rebuild.
    read_from
        Without a checkpoint: where reading begins, if that is below ``offset``.
    warnings
        What is out of the ordinary and accepted, in words.
    range
        Which of its messages are read.
    is_held
        Whether none is, until a person releases the partition.
    """

    offset: int
    checkpoint: Checkpoint | None
    warnings: tuple[str, ...] = ()
    range: Range = UNBOUNDED
    is_held: bool = False
    read_from: int | None = None
