"""A backfill: the ranges that it reads, and how far it is.

Its plan is nothing but its group's committed offsets. The first process commits the first offset of
each partition, in one transaction; their metadata have the ranges, and each later commit has them
again. So they live exactly as long as the progress, and whoever continues finds both together.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from stepstream.detection import Rules
from stepstream.errors import SettingsError, StreamError
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.clients import (
    ALWAYS_CONNECTED,
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    client_properties,
    explain_kafka_errors,
    patiently,
)
from stepstream.streaming.comparison import count_found
from stepstream.streaming.ranges import Range
from stepstream.streaming.reading import read_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster, TopicIdentity

    Name: TypeAlias = tuple[str, int]
    """Topic and number of a partition."""
    Bound: TypeAlias = datetime | int | None

__all__ = ["Backfill", "Bounds", "Done"]

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Bounds:
    """What a backfill is asked to read.

    Attributes
    ----------
    begin, end
        Record times, or offsets that hold for each partition: from the first, before the second.
        None is the first message of a partition, or what is its end when the backfill begins.
    """

    begin: Bound = None
    end: Bound = None

    def check(self) -> None:
        """Refuse bounds that can't be meant.

        Raises
        ------
        SettingsError
            The end is not after the beginning, or is in the future.
        """
        begin, end = self.begin, self.end
        if isinstance(end, datetime) and end > datetime.now(UTC):
            raise SettingsError("--to is in the future: a backfill reads what is there")
        is_backward = (
            (isinstance(begin, datetime) and isinstance(end, datetime) and begin >= end)
            or (isinstance(begin, int) and isinstance(end, int) and begin >= end)
        )  # fmt: skip
        if is_backward:
            raise SettingsError(f"--to has to be after --from: {self}")

    def __str__(self) -> str:
        """As options of the command; empty for all that there is."""
        given = (("--from", self.begin), ("--to", self.end))
        return " ".join(f"{flag} {_text(bound)}" for flag, bound in given if bound is not None)


@dataclass(frozen=True)
class Done:
    """How far a backfill is.

    Attributes
    ----------
    ranges
        Of each partition, with what came of it so far.
    next_offsets
        Everything below is committed.
    """

    ranges: Mapping[Name, Range]
    next_offsets: Mapping[Name, int]

    @property
    def offsets(self) -> int:
        """Offsets that are done."""
        return sum(self.next_offsets[name] - range_.begin for name, range_ in self.ranges.items())

    @property
    def all_offsets(self) -> int:
        """Offsets that there are to do."""
        return sum(range_.end - range_.begin for range_ in self.ranges.values())

    @property
    def readings(self) -> int:
        """Readings that are done."""
        return sum(range_.readings for range_ in self.ranges.values())

    @property
    def is_complete(self) -> bool:
        """Whether all is done."""
        return all(self.next_offsets[name] >= r.end for name, r in self.ranges.items())

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that are read."""
        return tuple(sorted({topic for topic, _ in self.ranges}))


class Backfill:
    """Plans a backfill, or continues one that was planned before.

    Parameters
    ----------
    settings
        All settings, with the group and the topics of the backfill.
    cluster
        Answers questions about topics and offsets.
    topics
        The topics to read.
    """

    def __init__(
        self, settings: Settings, cluster: Cluster, topics: Mapping[str, TopicIdentity]
    ) -> None:
        self._settings = settings
        self._group = settings.kafka.group_id
        self._cluster = cluster
        self._topics = topics
        self._names = [
            (name, number)
            for name, topic in topics.items()
            for number in range(topic.partition_count)
        ]
        with explain_kafka_errors("kafka settings"):
            # Not the client for questions: librdkafka (2.16) crashes if that asks a broker for
            # offsets that isn't the group's coordinator yet, or any more
            # (https://github.com/confluentinc/librdkafka/issues/5040).
            self._consumer = Consumer(
                {
                    **client_properties(settings.kafka, PRODUCER_ONLY),
                    "group.id": self._group,
                    "enable.auto.commit": False,
                    # What is committed by now, without waiting for open transactions.
                    "isolation.level": "read_uncommitted",
                },
                logger=logger,
            )

    def look(self) -> Done | None:
        """How far it is; None if it isn't planned yet.

        Raises
        ------
        StreamError
            The group's offsets are not those of a backfill.
        KafkaException
            No broker answers in time.
        """
        ranges, next_offsets = {}, {}
        # Renews tokens of OAUTHBEARER.
        self._consumer.poll(0)
        asked = [TopicPartition(*name) for name in self._names]
        for committed in self._consumer.committed(asked, TIMEOUT_S):
            if committed.error is not None:
                raise KafkaException(committed.error)
            if committed.offset < 0:
                continue
            name = committed.topic, committed.partition
            checkpoint = Checkpoint.decode(committed.metadata or "")
            if checkpoint is None or not checkpoint.range.is_bounded:
                raise StreamError(
                    f"the group {self._group} has committed offsets that are no backfill's: give "
                    "the backfill a group of its own, best with --into NAME"
                )
            ranges[name], next_offsets[name] = checkpoint.range, committed.offset
        return Done(ranges, next_offsets) if ranges else None

    def begin(self, bounds: Bounds, model: str) -> Done:
        """Plan the backfill, if no process has done so before.

        Parameters
        ----------
        bounds
            What to read of the topics.
        model
            Name and version of the model.

        Raises
        ------
        StreamError
            It was begun with other bounds, another model or other topics; or Kafka refuses.
        SettingsError
            Nothing can be within the bounds.
        """
        with explain_kafka_errors(f"the backfill {self._group} can't begin"):
            known = patiently(lambda: self.look() or self._plan(bounds, model))
        begun = [range_ for range_ in known.ranges.values() if range_.model]
        one = begun[0]
        for what, before, now in [
            ("bounds", one.request, str(bounds)),
            ("model", one.model, model),
            ("number of partitions", str(one.partitions), str(len(begun))),
            ("topics", *map(", ".join, (known.topics, self._topics_asked_for(known.topics)))),
        ]:
            if before != now:
                raise StreamError(
                    f"the backfill {self._group} was begun with {_show(what, before)}, not with "
                    f"{_show(what, now)}: continue it with the same, or give another name"
                )
        return known

    def _topics_asked_for(self, begun: Sequence[str]) -> list[str]:
        """The topics of the settings; of those that match a pattern only those there were then."""
        named = self._settings.topics.named
        return sorted({*named, *(topic for topic in begun if topic not in named)})

    def _plan(self, bounds: Bounds, model: str) -> Done:
        """Decide what to read, and commit it; a second process that tries it waits, or fails."""
        properties = client_properties(self._settings.kafka, CONSUMER_ONLY)
        producer = Producer(
            {**properties, **ALWAYS_CONNECTED, "transactional.id": f"{self._group}.plan"},
            logger=logger,
        )
        producer.init_transactions(TIMEOUT_S)
        planned = self.look()
        if planned is not None:
            return planned
        checkpoints = self._first_checkpoints(bounds, model)
        self._refuse_leftovers(checkpoints)
        producer.begin_transaction()
        producer.send_offsets_to_transaction(
            [
                TopicPartition(*name, checkpoint.range.begin, checkpoint.encode())
                for name, checkpoint in checkpoints.items()
            ],
            self._consumer.consumer_group_metadata(),
            TIMEOUT_S,
        )
        producer.commit_transaction(TIMEOUT_S)
        ranges = {name: checkpoint.range for name, checkpoint in checkpoints.items()}
        return Done(ranges, {name: range_.begin for name, range_ in ranges.items()})

    def _refuse_leftovers(self, names: Iterable[Name]) -> None:
        """Refuse to begin where steps are counted already: none of them would be published again.

        Brokers delete the offsets of a group that has had no member for long, and keep its ledger.
        """
        if any(count_found(self._settings, self._cluster, names).values()):
            raise StreamError(
                f"the topic {self._settings.topics.state} has step counts of the group "
                f"{self._group}, whose offsets are gone: give the backfill another name"
            )

    def _first_checkpoints(self, bounds: Bounds, model: str) -> dict[Name, Checkpoint]:
        names = self._names
        first = self._cluster.offsets(names, at_end=False)
        last = self._cluster.offsets(names, at_end=True)
        if isinstance(bounds.begin, int) and bounds.begin > max(last.values()):
            raise SettingsError(
                f"--from {bounds.begin} is an offset beyond the end of every partition; a time is "
                "written like 2030-01-31T12:00:00Z"
            )
        begins = self._place(bounds.begin, first, first, last)
        ends = self._place(bounds.end, last, first, last)
        begin_ms = self._times(bounds.begin, {n: (begins[n], ends[n]) for n in names})
        history_ms = Rules.of(self._settings.processing).history_ms
        found = self._cluster.messages_since({n: ms - history_ms for n, ms in begin_ms.items()})
        checkpoints = {}
        for name in names:
            range_ = Range(
                begins[name],
                max(begins[name], ends[name]),
                begin_ms.get(name, 0),
                request=str(bounds),
                model=model,
                partitions=len(names),
                end_ms=_ms(bounds.end) if isinstance(bounds.end, datetime) else 0,
            )
            replay, replay_ms = found.get(name, (range_.begin, 0))
            if replay >= range_.begin:
                replay, replay_ms = range_.begin, 0
            checkpoints[name] = Checkpoint(
                replay,
                replay_ms,
                range_.begin_ms,
                0,
                self._topics[name[0]].topic_id,
                self._topics[name[0]].partition_count,
                range=range_,
            )
        return checkpoints

    def _place(
        self,
        bound: Bound,
        default: Mapping[Name, int],
        first: Mapping[Name, int],
        last: Mapping[Name, int],
    ) -> dict[Name, int]:
        """The offsets at a bound, within what there is."""
        if bound is None:
            return dict(default)
        if isinstance(bound, int):
            return {name: min(max(bound, first[name]), last[name]) for name in default}
        found = self._cluster.messages_since(dict.fromkeys(default, _ms(bound)))
        return {
            name: min(found[name][0], last[name]) if name in found else last[name]
            for name in default
        }

    def _times(self, begin: Bound, offsets: Mapping[Name, tuple[int, int]]) -> dict[Name, int]:
        """Record time at the beginning of ranges, as far as there is one."""
        if begin is None:
            return {}
        if isinstance(begin, datetime):
            return dict.fromkeys(offsets, _ms(begin))
        times = {}
        for (topic, number), its_offsets in offsets.items():
            reading = read_between(self._settings.kafka, topic, {number: its_offsets})
            messages = next(reading, None)
            reading.close()
            if messages:
                times[topic, number] = messages[0].timestamp()[1]
        return times


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _text(bound: datetime | int) -> str:
    if isinstance(bound, int):
        return str(bound)
    return bound.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _show(what: str, value: str) -> str:
    return f"the {what} {value}" if value else f"no {what}"
