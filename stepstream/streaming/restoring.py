"""From an assignment to a running partition: where it starts, and what is counted already."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain, groupby
from operator import methodcaller
from typing import TYPE_CHECKING

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from stepstream.errors import StreamError
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.clients import explain_denied
from stepstream.streaming.cluster import NO_OFFSET, TopicIdentity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepstream.settings import AbnormalStart, Settings
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.partitions import Partition

__all__ = ["LedgerReader", "Position", "Start", "look_up", "plan_start"]

logger = logging.getLogger(__name__)

READ_AT_ONCE = 10_000
WARN_S = 10.0


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
    """

    topic: TopicIdentity
    committed_offset: int
    metadata: str
    first_offset: int
    end_offset: int
    state_end: int


@dataclass(frozen=True)
class Start:
    """Where a partition starts.

    Attributes
    ----------
    offset
        Results of messages below it are published.
    checkpoint
        How windows are rebuilt, if there is anything to rebuild.
    warnings
        What is out of the ordinary and accepted, in words.
    """

    offset: int
    checkpoint: Checkpoint | None
    warnings: tuple[str, ...] = ()


def look_up(
    cluster: Cluster, state_topic: str, partitions: Sequence[Partition]
) -> dict[Partition, Position]:
    """Ask Kafka about partitions; those whose committed offset may still change are left out.

    The end of the state partition is asked for only after the committed offset is known to be
    stable: whatever was committed with that offset lies below this end.
    """
    topics = cluster.identify_topics({partition.topic for partition in partitions})
    names = {(partition.topic, partition.number): partition for partition in partitions}
    committed = cluster.committed_offsets(names)
    stable = [name for name in names if name in committed]
    if not stable:
        return {}
    first = cluster.offsets(stable, at_end=False)
    end = cluster.offsets(stable, at_end=True)
    state_end = cluster.offsets({(state_topic, number) for _, number in stable}, at_end=True)
    return {
        names[name]: Position(
            topics[name[0]],
            committed[name].offset,
            committed[name].metadata,
            first[name],
            end[name],
            state_end[state_topic, name[1]],
        )
        for name in stable
    }


def plan_start(name: str, position: Position, ledger_size: int, settings: Settings) -> Start:
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

    Raises
    ------
    StreamError
        The start is abnormal, and no setting accepts it.
    """
    judge = _Judge(name, settings.processing.accept)
    first, end = position.first_offset, position.end_offset
    committed = position.committed_offset
    if committed == NO_OFFSET:
        if ledger_size:
            judge.abnormal(
                "missing-offset",
                f"the steps of {ledger_size} devices are counted, but the group has no offset here",
                f"read from the {settings.kafka.start_at} offset, counts go on",
            )
        beginning = first if settings.kafka.start_at == "earliest" else end
        return judge.start(beginning, None)
    checkpoint = Checkpoint.decode(position.metadata)
    if checkpoint is not None and not judge.is_same_topic(checkpoint, position.topic):
        return judge.start(first, None)
    if committed < first:
        judge.abnormal(
            "lost-readings",
            f"readings from {committed} to {first} were deleted unread",
            "read from the topic's start",
        )
        return judge.start(first, None)
    if committed > end:
        judge.abnormal(
            "offset-beyond-end",
            f"{committed} is committed, the topic ends at {end}",
            "read from its end",
        )
        return judge.start(end, None)
    if checkpoint is not None and checkpoint.replay_offset < first:
        judge.warn("readings to rebuild windows from were deleted, some windows start anew")
        checkpoint = replace(checkpoint, replay_offset=first)
    return judge.start(committed, checkpoint)


class _Judge:
    """Refuses abnormal starts that no setting accepts, and collects what it let pass."""

    def __init__(self, name: str, accepted: Sequence[AbnormalStart]) -> None:
        self._name = name
        self._accepted = accepted
        self._warnings: list[str] = []

    def abnormal(self, kind: AbnormalStart, what: str, consequence: str) -> None:
        if kind not in self._accepted:
            raise StreamError(
                f"{self._name}: {what}. To go on ({consequence}), add {kind} to "
                "processing.accept; to count again from scratch, use a new group"
            )
        self.warn(f"{what}; accepted: {consequence}")

    def warn(self, what: str) -> None:
        self._warnings.append(f"{self._name}: {what}")

    def is_same_topic(self, checkpoint: Checkpoint, topic: TopicIdentity) -> bool:
        if checkpoint.topic_id and topic.topic_id and checkpoint.topic_id != topic.topic_id:
            self.abnormal(
                "recreated-topic",
                "the topic is not the one that was read before, it was created anew",
                "read it from its start, counts go on",
            )
            return False
        if checkpoint.partition_count != topic.partition_count:
            self.abnormal(
                "changed-partitions",
                f"the topic had {checkpoint.partition_count} partitions and has "
                f"{topic.partition_count}: devices have moved",
                "devices that moved are counted from 1",
            )
        return True

    def start(self, offset: int, checkpoint: Checkpoint | None) -> Start:
        return Start(offset, checkpoint, tuple(self._warnings))


class LedgerReader:
    """Reads ledgers from the state topic, a part at each turn.

    Parameters
    ----------
    consumer
        A client of its own, read-committed, with end-of-partition events; it joins no group.
    topic
        The state topic.
    timeout_s
        Longest time without progress.
    """

    def __init__(self, consumer: Consumer, topic: str, timeout_s: float) -> None:
        self._consumer = consumer
        self._topic = topic
        self._timeout_s = timeout_s
        self._waiting: list[tuple[Partition, int]] = []
        self._reading: defaultdict[int, list[tuple[Partition, int]]] = defaultdict(list)
        self._next: dict[int, int] = {}
        """Offset behind the last record read, of each partition that is being read."""
        self._progress_s = 0.0
        self._warned_s = 0.0

    def connect(self, timeout_s: float) -> None:
        """Look the topic up, which takes the client a second when partitions already wait.

        Raises
        ------
        KafkaException
            No broker says in time.
        """
        self._consumer.list_topics(self._topic, timeout_s)

    def close(self) -> None:
        """Close its client."""
        self._consumer.close()

    @property
    def remaining(self) -> int:
        """Offsets that are still to be read; from any thread, so for a moment."""
        jobs = [*self._waiting, *chain.from_iterable(list(self._reading.values()))]
        ends = {partition.number: end_offset for partition, end_offset in jobs}
        return sum(max(0, end - self._next.get(number, 0)) for number, end in ends.items())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be read."""
        return not self._waiting and not self._reading

    def add(self, partition: Partition, end_offset: int) -> None:
        """Read a partition's ledger up to an offset of its state partition."""
        if self.is_idle:
            self._progress_s = time.monotonic()
        self._waiting.append((partition, end_offset))

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Stop reading for partitions that are no longer owned."""
        gone = set(partitions)
        self._waiting = [job for job in self._waiting if job[0] not in gone]
        for number, jobs in list(self._reading.items()):
            left = [job for job in jobs if job[0] not in gone]
            self._reading[number] = left
            if not left:
                self._finish(number)

    def turn(self) -> list[Partition]:
        """Read what is there; the partitions whose ledger is complete.

        Raises
        ------
        StreamError
            Nothing moved for too long, or the topic can't be read.
        """
        done = [partition for partition, end_offset in self._waiting if end_offset == 0]
        waiting = [job for job in self._waiting if job[1] > 0]
        begin = {p.number for p, _ in waiting} - self._reading.keys()
        self._waiting = [job for job in waiting if job[0].number not in begin]
        for job in waiting:
            if job[0].number in begin:
                self._reading[job[0].number].append(job)
        if begin:
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in begin]
            )
        if self._reading:
            done += self._read()
        return done

    def _read(self) -> list[Partition]:
        done: list[Partition] = []
        messages = self._consumer.consume(READ_AT_ONCE, 0.005)
        # Messages of a partition come in long runs.
        for number, run in groupby(messages, methodcaller("partition")):
            jobs = self._reading.get(number) if number is not None else None
            if number is None or not jobs:
                continue
            for message in run:
                error = message.error()
                if error is not None:
                    done += self._end(number, jobs, message.offset(), error)
                    continue
                key, value, written_ms = message.key(), message.value(), message.timestamp()[1]
                for partition, _ in jobs:
                    partition.ledger.restore(key, value, written_ms)
                self._next[number] = (message.offset() or 0) + 1
                self._progress_s = time.monotonic()
        if not done:
            self._check_progress()
        return done

    def _end(
        self, number: int, jobs: list[tuple[Partition, int]], offset: int | None, error: KafkaError
    ) -> list[Partition]:
        """The partitions that are complete because nothing more comes."""
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            # It comes at the last stable offset: an open transaction holds it back.
            if offset is not None and offset >= max(end for _, end in jobs):
                self._finish(number)
                return [partition for partition, _ in jobs]
        elif error.fatal() or not error.retriable():
            denied = explain_denied(error, {"topic": f"READ on {self._topic}"})
            if denied is not None:
                raise denied
            raise StreamError(f"can't read {self._topic}-{number}: {error.str()}")
        return []

    def _check_progress(self) -> None:
        """Warn while nothing moves, and give up in the end."""
        now_s = time.monotonic()
        names = ", ".join(f"{self._topic}-{number}" for number in sorted(self._reading))
        if now_s - self._progress_s > self._timeout_s:
            raise StreamError(
                f"{names}: no progress for {self._timeout_s:.0f} s, a transaction may be hanging: "
                "look for it with kafka-transactions.sh find-hanging"
            )
        if now_s - max(self._progress_s, self._warned_s) > WARN_S:
            self._warned_s = now_s
            logger.warning("still waiting for the last records of %s", names)

    def _finish(self, number: int) -> None:
        self._reading.pop(number, None)
        self._next.pop(number, None)
        try:
            self._consumer.incremental_unassign([TopicPartition(self._topic, number)])
        except KafkaException as error:
            raise StreamError(f"{self._topic}-{number}: {error.args[0].str()}") from None
