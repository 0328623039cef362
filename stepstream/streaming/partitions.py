"""What the consumer knows of each input partition that it owns."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from stepstream.streaming.checkpoints import Checkpoint

if TYPE_CHECKING:
    from stepstream.streaming.cluster import TopicIdentity
    from stepstream.streaming.ledger import Ledger
    from stepstream.streaming.limits import DeadLetterLimit

__all__ = ["Partition", "Phase"]


class Phase(Enum):
    """Where an input partition stands.

    ::

        ASSIGNED ──> RESTORING ──> REPLAYING ──> RUNNING
            │            │             │            │
            └────────────┴─────────────┴────────────┴──> RELEASED

    """

    ASSIGNED = auto()
    """Ours since the last rebalance, paused; its committed offset is being asked for."""
    RESTORING = auto()
    """Its ledger is being read."""
    REPLAYING = auto()
    """Messages below the committed offset rebuild its windows; nothing of them is published."""
    RUNNING = auto()
    """Its messages are processed and the results published."""
    RELEASED = auto()
    """Revoked or lost: whatever is left of it is not published."""


_NEXT = {
    Phase.ASSIGNED: {Phase.RESTORING, Phase.RELEASED},
    Phase.RESTORING: {Phase.REPLAYING, Phase.RUNNING, Phase.RELEASED},
    Phase.REPLAYING: {Phase.RUNNING, Phase.RELEASED},
    Phase.RUNNING: {Phase.RELEASED},
    Phase.RELEASED: set[Phase](),
}


class Partition:
    """One input partition under one assignment; a later assignment makes another.

    Parameters
    ----------
    topic, number
        Its topic and number.
    ledger
        Step counts of its devices.
    limit
        Watches its dead letters.
    """

    def __init__(self, topic: str, number: int, ledger: Ledger, limit: DeadLetterLimit) -> None:
        self.topic = topic
        self.number = number
        self.ledger = ledger
        self.limit = limit
        self.is_held = False
        """Whether nothing more is taken, because too much of it was set aside."""
        self.is_warned = False
        """Whether it was said that too much of it is set aside."""
        self.phase = Phase.ASSIGNED
        self.topic_id = ""
        self.partition_count = 0
        self.committed_offset = 0
        """Messages below this were published before; at the start, and with each commit."""
        self.publish_from = 0
        """Committed offset at the start: results of messages below it are not published."""
        self.next_offset = 0
        """Offset of the next message to take; messages below it were taken before."""
        self.stream_ms = 0
        """Stream time: the running maximum of the records' times, milliseconds."""
        self.replay_stream_ms = 0
        """Stream time at the end of the replay, which nothing in it goes beyond."""
        self.replay_behind_ms = 0
        """How far stream time was behind the clock at the end of the replay."""
        self.replay_point = (0, 0)
        """Oldest offset that a window needs, and stream time there, when last computed."""
        self.taken_since = 0
        """Readings taken since then, or messages without any."""
        self.next_sweep_ms = 0
        """Stream time from which idle devices are looked for again."""
        self.end_offset = -1
        """Where what can be read ends, when last heard of."""
        self.reached_offset = 0
        """All that can be read below this was taken, even where no message comes of it."""
        self.caught_up_ms = 0
        """When nothing was left to take, milliseconds since the epoch."""
        self.assigned_s = 0.0
        """When it was assigned, by a clock of the process."""
        self.slots: dict[bytes, int] = {}
        """Slots of the devices with a window, by message key."""

    def __repr__(self) -> str:
        return f"{self.topic}-{self.number}"

    def enter(self, phase: Phase) -> None:
        """Go on to a phase.

        Raises
        ------
        RuntimeError
            The diagram in `Phase` has no such way.
        """
        if phase not in _NEXT[self.phase]:
            raise RuntimeError(f"{self!r} can't go from {self.phase} to {phase}")
        self.phase = phase

    def identify(self, topic: TopicIdentity, end_offset: int) -> None:
        """Note which topic this is a partition of, and where it ends at the start."""
        self.topic_id = self.ledger.topic_id = topic.topic_id
        self.partition_count = topic.partition_count
        self.ledger.end_offset = end_offset

    def begin_at(self, committed_offset: int, checkpoint: Checkpoint | None) -> None:
        """Set where reading begins, and with which stream time.

        Parameters
        ----------
        committed_offset
            Results of messages below it were published.
        checkpoint
            What was committed with it; without, there is nothing to be rebuilt.
        """
        self.publish_from = self.committed_offset = self.next_offset = committed_offset
        if checkpoint is not None:
            self.next_offset = min(checkpoint.replay_offset, committed_offset)
            self.stream_ms = checkpoint.replay_ms
            self.replay_stream_ms = checkpoint.stream_ms
            self.replay_behind_ms = checkpoint.behind_ms
        self.replay_point = (self.next_offset, self.stream_ms)

    @property
    def is_replaying(self) -> bool:
        """Whether the next message is one whose results were published before."""
        return self.next_offset < self.publish_from

    def advance(self, next_offset: int) -> None:
        """Note that all messages below ``next_offset`` were taken."""
        if next_offset < self.next_offset:
            raise RuntimeError(f"{self!r} would go back from {self.next_offset} to {next_offset}")
        self.next_offset = next_offset

    def committed(self, next_offset: int) -> None:
        """Note that everything below ``next_offset`` is committed."""
        if next_offset < self.committed_offset:
            raise RuntimeError(
                f"{self!r}: committed {next_offset} after {self.committed_offset} was"
            )
        self.committed_offset = next_offset

    def note_end(self, end_offset: int, now_ms: int) -> None:
        """Note where what can be read ends."""
        self.end_offset = end_offset
        if self.lag == 0:
            self.caught_up_ms = now_ms

    @property
    def lag(self) -> int | None:
        """Offsets that are left to take; None as long as the end isn't known.

        Transaction markers and aborted messages take offsets and never arrive: what the client
        has passed over at the partition's end counts as taken.
        """
        if self.end_offset < 0:
            return None
        taken = max(self.next_offset, self.publish_from, self.reached_offset)
        return max(0, self.end_offset - taken)

    def lag_ms(self, now_ms: int) -> int | None:
        """How long ago all that could be read was taken; None as long as that isn't known."""
        if not self.lag:
            return self.lag
        since_ms = max(self.stream_ms, self.replay_stream_ms, self.caught_up_ms)
        return max(0, now_ms - since_ms) if since_ms else None

    def checkpoint(self, now_ms: int) -> Checkpoint:
        """What to commit with the next offset."""
        offset, offset_ms = self.replay_point
        return Checkpoint(
            offset,
            offset_ms,
            self.stream_ms,
            now_ms - self.stream_ms,
            self.topic_id,
            self.partition_count,
        )
