"""What the consumer knows of each input partition that it owns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.ranges import UNBOUNDED, Range
from stepstream.streaming.stream_time import StreamTime

if TYPE_CHECKING:
    from stepstream.streaming.cluster import TopicIdentity
    from stepstream.streaming.ledger import Ledger
    from stepstream.streaming.limits import DeadLetterLimit
    from stepstream.streaming.positions import Position, Start

__all__ = ["UNHEARD_MS", "Lag", "Partition", "PauseReason", "Phase"]


class Phase(Enum):
    """The phase of an input partition.

    ::

        ASSIGNED ──> RESTORING ──> STARTING ──> REPLAYING ──> RUNNING ──> ENDED
            │            │  │         │ └┬──────────┼┬─────────^ │        ^ │
            │            │  └> REFUSED│  └──────────┼┴───────────┼────────┘ │
            │            │        │   │             │            │          │
            └────────────┴────────┴───┴─────────────┴────────────┴──────────┴──> RELEASED

    """

    ASSIGNED = auto()
    """This consumer owns it; its committed offset is being looked up."""
    RESTORING = auto()
    """Its position is known; its ledger is being read."""
    REFUSED = auto()
    """Its start is abnormal and its topic only matches a pattern: nothing of it is read."""
    STARTING = auto()
    """Its start is known; the client has to seek there."""
    REPLAYING = auto()
    """Messages below the committed offset rebuild its windows; nothing is published."""
    RUNNING = auto()
    """Its messages are processed and the results are published."""
    ENDED = auto()
    """All messages of its range are processed; only `backfill` gives ranges an end."""
    RELEASED = auto()
    """Revoked or lost; its remaining results are not published."""

    @property
    def is_preparing(self) -> bool:
        """Whether nothing of it is consumed yet."""
        return self in _PREPARING

    @property
    def is_settled(self) -> bool:
        """Whether it runs, or has nothing more to do under this assignment."""
        return self in _SETTLED

    @property
    def is_consuming(self) -> bool:
        """Whether its messages are consumed, to be replayed or processed."""
        return self in _CONSUMING


_PREPARING = {Phase.ASSIGNED, Phase.RESTORING, Phase.STARTING}
_CONSUMING = {Phase.REPLAYING, Phase.RUNNING}
_SETTLED = {Phase.RUNNING, Phase.REFUSED, Phase.ENDED}
_NEXT = {
    Phase.ASSIGNED: {Phase.RESTORING, Phase.RELEASED},
    Phase.RESTORING: {Phase.STARTING, Phase.REFUSED, Phase.RELEASED},
    Phase.REFUSED: {Phase.RELEASED},
    Phase.STARTING: {Phase.REPLAYING, Phase.RUNNING, Phase.ENDED, Phase.RELEASED},
    Phase.REPLAYING: {Phase.RUNNING, Phase.ENDED, Phase.RELEASED},
    Phase.RUNNING: {Phase.ENDED, Phase.RELEASED},
    Phase.ENDED: {Phase.RELEASED},
    Phase.RELEASED: set[Phase](),
}


class PauseReason(Enum):
    """Why nothing is fetched of a partition."""

    PREPARING = auto()
    """It has not started yet."""
    BACKPRESSURE = auto()
    """The outbox is full."""
    HELD = auto()
    """Too many of its messages are dead letters."""
    SCHEMA = auto()
    """Its next message has a schema that the registry has not given yet."""
    ENDED = auto()
    """The end of its range is reached."""


UNHEARD_MS = 5_000
"""How long it holds that nothing is left to read; it is noted about once a second."""


@dataclass(slots=True)
class Lag:
    """How far a partition's messages are processed, and where they end.

    Attributes
    ----------
    end_offset
        The last known end of what can be read; -1 as long as it isn't known.
    reached_offset
        Everything below this is read. Transaction markers and aborted messages have offsets, but
        never arrive: the client skips them, and says so at the end of the partition.
    caught_up_ms
        When nothing was left to read for the last time, milliseconds since the epoch.
    """

    end_offset: int = -1
    reached_offset: int = 0
    caught_up_ms: int = 0

    def messages(self, next_offset: int) -> int | None:
        """Offsets from ``next_offset`` on; None as long as the end isn't known."""
        if self.end_offset < 0:
            return None
        return max(0, self.end_offset - max(next_offset, self.reached_offset))


class Partition:
    """One input partition under one assignment; the next assignment makes another.

    Parameters
    ----------
    topic, number
        Its topic and number.
    ledger
        Step counts of its devices.
    limit
        Watches its dead letters.
    max_ahead_us
        See `StreamTime`.
    """

    def __init__(
        self, topic: str, number: int, ledger: Ledger, limit: DeadLetterLimit, max_ahead_us: int
    ) -> None:
        self.topic = topic
        self.number = number
        self.ledger = ledger
        self.limit = limit
        self.phase = Phase.ASSIGNED
        self.pause_reasons: set[PauseReason] = set()
        """Only `FlowControl` changes them."""
        self.assigned_s = 0.0
        """When it was assigned, by the monotonic clock."""
        self.position: Position | None = None
        """What Kafka says of it; from `Phase.RESTORING` on."""
        self.start: Start | None = None
        """Where it starts; from `Phase.STARTING` on."""
        self.range: Range = UNBOUNDED
        """Which of its messages are read; known from `Phase.STARTING` on."""
        self.committed_offset = 0
        """Messages below this were published: at the start, and by each commit."""
        self.publish_from = 0
        """Committed offset at the start: results of messages below it are not published."""
        self.next_offset = 0
        """Offset of the next message; those below it were processed or replayed."""
        self.time = StreamTime(max_ahead_us)
        self.lag = Lag()
        self.is_held = False
        """Whether nothing is consumed because too many messages are dead letters."""
        self.slots: dict[bytes, int] = {}
        """Slots of the devices with a window, by message key; only `Devices` changes them."""
        self.replay_from = (0, 0)
        """Replay offset, and stream time there, when last computed."""

    def __repr__(self) -> str:
        return f"{self.topic}-{self.number}"

    def enter(self, phase: Phase) -> None:
        """Go on to a phase.

        Raises
        ------
        RuntimeError
            The diagram in `Phase` has no such transition.
        """
        if phase not in _NEXT[self.phase]:
            raise RuntimeError(f"{self!r} can't go from {self.phase} to {phase}")
        self.phase = phase

    def restore_from(self, position: Position) -> None:
        """Enter `Phase.RESTORING`: what Kafka says of the partition is known."""
        self.enter(Phase.RESTORING)
        self.position = position
        self.ledger.topic_id = position.topic.topic_id
        self.ledger.end_offset = position.end_offset
        self.lag.end_offset = position.end_offset
        self.lag.reached_offset = max(position.committed_offset, position.first_offset)

    def start_at(self, start: Start) -> None:
        """Enter `Phase.STARTING`: the first offset to read is known."""
        self.enter(Phase.STARTING)
        self.start = start
        self.range = start.range
        self.is_held = start.is_held
        self.time.is_past = start.range.is_bounded
        self.lag.end_offset = min(self.lag.end_offset, start.range.end)
        self.publish_from = self.committed_offset = self.next_offset = start.offset
        if start.checkpoint is not None:
            self.next_offset = min(start.checkpoint.replay_offset, start.offset)
            self.time.begin_at(start.checkpoint)
        elif start.read_from is not None:
            self.next_offset = min(start.read_from, start.offset)
        self.replay_from = (self.next_offset, self.time.ms)

    @property
    def must_commit_start(self) -> bool:
        """Whether the start is to be committed at once, so that the group remembers it.

        Never while a replay comes first: it begins below the committed offset, which must not go
        back. Nor while it is held: what is committed says where its replay begins.
        """
        position, start = self.position, self.start
        if position is None or start is None or self.is_replaying or self.is_held:
            return False
        return (
            start.offset != position.committed_offset
            or start.checkpoint is None
            or start.checkpoint.partition_count != position.topic.partition_count
        )

    @property
    def has_ended(self) -> bool:
        """Whether all messages of its range were committed when it started."""
        return self.publish_from >= self.range.end

    @property
    def has_reached_end(self) -> bool:
        """Whether all messages of its range are processed."""
        is_read = max(self.next_offset, self.lag.reached_offset) >= self.range.end
        return is_read and not self.is_waiting

    @property
    def topic_identity(self) -> TopicIdentity | None:
        """The topic's id and partition count; None as long as they aren't known."""
        return None if self.position is None else self.position.topic

    @property
    def takes_messages(self) -> bool:
        """Whether messages of it are consumed, to be replayed or processed."""
        return self.phase.is_consuming and not (self.is_held or self.is_waiting)

    @property
    def is_waiting(self) -> bool:
        """Whether nothing is consumed because a schema is being fetched."""
        return PauseReason.SCHEMA in self.pause_reasons

    @property
    def is_replaying(self) -> bool:
        """Whether the results of the next message were published before."""
        return self.next_offset < self.publish_from

    def advance(self, next_offset: int) -> None:
        """Note that all messages below ``next_offset`` are processed.

        Raises
        ------
        RuntimeError
            The offset would go back.
        """
        if next_offset < self.next_offset:
            raise RuntimeError(
                f"{self!r}: the next offset would go back from {self.next_offset} to {next_offset}"
            )
        self.next_offset = next_offset

    def note_results(self, readings: int, dead_letters: int, steps: int) -> None:
        """Note what came of messages that are processed, see `Range`."""
        self.range = self.range.with_results(readings, dead_letters, steps)

    def put_back(self) -> None:
        """Note that messages from the next offset on were consumed and will be consumed again."""
        # The end may have been reached with them.
        self.lag.reached_offset = 0

    def note_committed(self, next_offset: int) -> None:
        """Note that everything below ``next_offset`` is committed.

        Raises
        ------
        RuntimeError
            The offset would go back.
        """
        if next_offset < self.committed_offset:
            raise RuntimeError(
                f"{self!r}: the committed offset would go back from {self.committed_offset} to "
                f"{next_offset}"
            )
        self.committed_offset = next_offset

    def note_end(self, end_offset: int, now_ms: int) -> None:
        """Note the end of what can be read."""
        self.lag.end_offset = min(end_offset, self.range.end)
        if self.lag_messages == 0:
            self.lag.caught_up_ms = now_ms

    @property
    def lag_messages(self) -> int | None:
        """Offsets that are left to process; None as long as the end isn't known."""
        return self.lag.messages(max(self.next_offset, self.publish_from))

    def lag_ms(self, now_ms: int) -> int | None:
        """How long ago all that could be read was processed; None as long as that isn't known.

        A partition that isn't heard of may have messages that nobody knows of, so time counts.
        """
        messages, caught_up_ms = self.lag_messages, self.lag.caught_up_ms
        if messages is None:
            return None
        if self.phase is Phase.ENDED:
            return 0
        if not messages and (not caught_up_ms or now_ms - caught_up_ms < UNHEARD_MS):
            return 0
        since_ms = max(self.time.ms, self.time.replay_end_ms, caught_up_ms)
        return max(0, now_ms - since_ms) if since_ms else None

    def checkpoint(self, now_ms: int) -> Checkpoint:
        """What to commit with the next offset."""
        offset, offset_ms = self.replay_from
        identity = self.topic_identity
        return Checkpoint(
            offset,
            offset_ms,
            self.time.ms,
            now_ms - self.time.ms,
            identity.topic_id if identity else "",
            identity.partition_count if identity else 0,
            self.time.refused_lead_us(offset),
            self.next_offset,
            self.is_held,
            self.range,
        )
