"""Where a partition starts after it was assigned."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from stepstream.errors import AbnormalStartError
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import NO_OFFSET, TopicIdentity
from stepstream.streaming.positions import Position, Start, StartRules
from stepstream.streaming.ranges import NOTHING, UNBOUNDED, Range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepstream.settings import AbnormalStart, Settings
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.positions import StartAt

__all__ = ["LookUp", "look_up", "plan_start"]


NO_TOPIC = TopicIdentity("", 0)


class LookUp(NamedTuple):
    """What Kafka says of partitions.

    ``positions`` leaves out partitions whose committed offset may still change, and those in
    ``missing``: a sentence for each partition whose topic doesn't exist, or that has no partition
    of the state topic for its ledger.
    """

    positions: dict[Partition, Position]
    missing: dict[Partition, str]


def look_up(
    cluster: Cluster,
    state_topic: str,
    partitions: Sequence[Partition],
    begin: datetime | None = None,
) -> LookUp:
    """Ask Kafka about partitions.

    ``begin`` is the time at which partitions without a committed offset may have to start.

    The end of the state partition is asked for only after the committed offset is known to be
    stable: all that was committed with that offset is below this end.
    """
    topics = cluster.identify_topics({state_topic, *(partition.topic for partition in partitions)})
    state = topics.get(state_topic, NO_TOPIC)
    missing = {
        partition: text for partition in partitions if (text := _missing(partition, topics, state))
    }
    names = {(p.topic, p.number): p for p in partitions if p not in missing}
    committed = cluster.committed_offsets(names) if names else {}
    stable = [name for name in names if name in committed]
    if not stable:
        return LookUp({}, missing)
    first = cluster.offsets(stable, at_end=False)
    end = cluster.offsets(stable, at_end=True)
    state_end = cluster.offsets({(state_topic, number) for _, number in stable}, at_end=True)
    new = [name for name in stable if committed[name].offset == NO_OFFSET]
    # After the end: no reading of that time or later lies before both.
    timed = {} if begin is None else cluster.messages_since(dict.fromkeys(new, _ms(begin)))
    positions = {
        names[name]: Position(
            topics[name[0]],
            committed[name].offset,
            committed[name].metadata,
            first[name],
            end[name],
            state_end[state_topic, name[1]],
            None if begin is None else timed.get(name, (end[name], 0))[0],
        )
        for name in stable
    }
    return LookUp(positions, missing)


def _ms(at: datetime) -> int:
    """Milliseconds since the epoch, rounded up: records have whole ones."""
    return max(0, -(-round(at.timestamp() * 1e6) // 1000))


def _missing(
    partition: Partition, topics: Mapping[str, TopicIdentity], state: TopicIdentity
) -> str:
    if partition.topic not in topics:
        return f"topic {partition.topic} doesn't exist"
    if partition.number >= state.partition_count:
        return f"the state topic has {state.partition_count} partitions, which are too few"
    return ""


def plan_start(  # noqa: PLR0913 - all that a start depends on
    name: str,
    position: Position,
    ledger_size: int,
    settings: Settings,
    rules: StartRules | None = None,
    *,
    is_recreated: bool = False,
    counted_to: int = -1,
) -> Start:
    """Decide where a partition starts.

    Parameters
    ----------
    name
        The partition, for messages.
    position
        What Kafka says of it.
    ledger_size
        Devices whose steps were counted before.
    settings
        All settings.
    rules
        What holds for its topic; by default, what the settings say.
    is_recreated
        Whether all of these steps were counted in another topic that had the same name.
    counted_to
        Highest offset of a message that completed one of these steps; -1 if none is of this topic.

    Raises
    ------
    AbnormalStartError
        The start is abnormal, and no setting accepts it.
    """
    rules = rules or StartRules(settings.kafka.start_at)
    nothing_left = _start_at_end(position, rules)
    if nothing_left is not None:
        return nothing_left
    check = _Check(name, settings.processing.accept, rules)
    first, end = position.first_offset, position.end_offset
    committed = position.committed_offset
    if committed == NO_OFFSET:
        start = _start_anew(check, position, ledger_size, rules, is_recreated=is_recreated)
        return start if is_recreated else _without_repeating(start, counted_to, end)
    checkpoint = Checkpoint.decode(position.metadata)
    check.range = checkpoint.range if checkpoint is not None else UNBOUNDED
    if checkpoint is not None and not check.is_same_topic(checkpoint, position.topic):
        return check.start(first, None)
    if checkpoint is not None and not checkpoint.belongs_to(committed):
        checkpoint = None
    is_set_by_others = checkpoint is None
    if committed < first:
        check.abnormal(
            "lost-readings",
            f"readings from {committed} to {first} were deleted unread",
            "read from the topic's start",
        )
        committed, checkpoint = first, None
    if committed > end:
        check.abnormal(
            "offset-beyond-end",
            f"{committed} is committed, the topic ends at {end}",
            "read from its end",
        )
        return check.start(end, None)
    # At-least-once may leave steps counted above an offset that stepstream committed itself.
    if is_set_by_others and counted_to >= committed:
        check.abnormal(
            "rewound-offset",
            f"the group's offset was set back to {committed}, and steps are counted up to offset "
            f"{counted_to}",
            "nothing up to there is published again, it is only read",
            "to publish the steps of these readings once more, use stepstream backfill",
        )
        return _without_repeating(check.start(committed, None), counted_to, end)
    if checkpoint is not None and checkpoint.replay_offset < first:
        check.warn("some readings to rebuild windows from were deleted, these windows start again")
        checkpoint = replace(checkpoint, replay_offset=first)
    if checkpoint is not None and checkpoint.is_held and _holds(settings):
        # The replay comes when it is released: as long as nothing is read, no window is needed.
        there = replace(checkpoint, replay_offset=committed, replay_ms=checkpoint.stream_ms)
        return replace(check.start(committed, there), is_held=True)
    return check.start(committed, checkpoint)


def _holds(settings: Settings) -> bool:
    return settings.processing.on_dead_letter_limit == "pause"


def _start_at_end(position: Position, rules: StartRules) -> Start | None:
    """The start of a partition of which nothing is left to read, whatever has become of it."""
    committed = position.committed_offset
    if committed == NO_OFFSET:
        return Start(0, None, range=NOTHING) if rules.start_at is None else None
    checkpoint = Checkpoint.decode(position.metadata)
    if checkpoint is None or committed < checkpoint.range.end:
        return None
    return Start(committed, replace(checkpoint, replay_offset=committed), range=checkpoint.range)


def _start_anew(
    check: _Check, position: Position, ledger_size: int, rules: StartRules, *, is_recreated: bool
) -> Start:
    """The start of a partition of which the group has committed nothing."""
    if ledger_size and is_recreated:
        # Kafka deletes the committed offsets of a topic together with the topic.
        check.recreated()
        return check.start(position.first_offset, None)
    if ledger_size:
        check.abnormal(
            "missing-offset",
            f"{ledger_size} devices have step counts, but the group has no committed offset",
            f"read from {_describe(rules.start_at)}, step counts continue",
        )
    return check.start(_beginning(position, rules.start_at), None)


def _without_repeating(start: Start, counted_to: int, end: int) -> Start:
    """The same start, but what was read before the last counted step is only read.

    A step is known by its offset, but a dead letter isn't, nor is the step of a forgotten device.
    Messages beyond the end are new, even if the topic had such offsets before it lost its end.
    """
    publish_from = min(counted_to + 1, end, start.range.end)
    if publish_from <= start.offset:
        return start
    return replace(start, offset=publish_from, read_from=start.offset)


def _describe(start_at: StartAt | None) -> str:
    if isinstance(start_at, datetime):
        return f"the first reading at or after {start_at.isoformat()}"
    return f"the {start_at} offset"


def _beginning(position: Position, start_at: StartAt | None) -> int:
    """Where a partition begins that was never read."""
    if start_at == "earliest":
        return position.first_offset
    if start_at == "latest":
        return position.end_offset
    if position.timed_offset is None:
        raise RuntimeError(f"nobody has asked for the offset at {start_at}")
    return position.timed_offset


class _Check:
    """Refuses abnormal starts that no setting accepts, and collects warnings of the others."""

    def __init__(self, name: str, accepted: Sequence[AbnormalStart], rules: StartRules) -> None:
        self._name = name
        self._accepted = accepted
        self._rules = rules
        self._warnings: list[str] = []
        self.range: Range = UNBOUNDED

    def abnormal(
        self,
        kind: AbnormalStart,
        what: str,
        consequence: str,
        otherwise: str = "to count again from 1, use a new group",
    ) -> None:
        if kind not in self._accepted:
            raise AbnormalStartError(
                f"{self._name}: {what}. To continue ({consequence}), add {kind} to "
                f"processing.accept; {otherwise}"
            )
        self.warn(f"{what}; accepted: {consequence}")

    def warn(self, what: str) -> None:
        self._warnings.append(f"{self._name}: {what}")

    def recreated(self) -> None:
        what = "the topic is not the one that was read before, it was created again"
        consequence = "read it from its start, step counts continue"
        if self._rules.may_be_recreated:
            self.warn(f"{what}; {consequence}")
        else:
            self.abnormal("recreated-topic", what, consequence)

    def is_same_topic(self, checkpoint: Checkpoint, topic: TopicIdentity) -> bool:
        if checkpoint.topic_id and topic.topic_id and checkpoint.topic_id != topic.topic_id:
            self.recreated()
            return False
        # What is in a range doesn't move when partitions are added.
        if checkpoint.partition_count != topic.partition_count and not checkpoint.range.is_bounded:
            self.abnormal(
                "changed-partitions",
                f"the topic had {checkpoint.partition_count} partitions and has "
                f"{topic.partition_count}: devices have moved",
                "devices that moved are counted from 1",
                "to move their counts along, stop all consumers and run stepstream move-counts",
            )
        return True

    def start(self, offset: int, checkpoint: Checkpoint | None) -> Start:
        offset = min(offset, self.range.end)
        return Start(offset, checkpoint, tuple(self._warnings), self.range)
