"""Reads ledgers from the state topic."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_denied

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.system import System

__all__ = ["LedgerReader"]

logger = logging.getLogger(__name__)

READ_AT_ONCE = 10_000
READ_WAIT_S = 0.005
WARN_S = 10.0


@dataclass
class _Job:
    """A ledger to be read from the start of its state partition up to an offset."""

    partition: Partition
    end_offset: int


class Scan:
    """One pass through a state partition, for all jobs that need it.

    A ledger is complete when the state partition has been read up to the end that was asked for.
    There are two signs of it, and the first that comes is used: a record at or behind that end, or
    the client's event that it has reached the end of the partition. If another consumer writes to
    the state partition all the time, that event may never come. If the last offsets of the state
    partition are transaction markers, that record may never come::

        offset   0   1   2   3   4   5   6   7   8
        record   a   b   m   c   m | x   y   m   x      m: marker, |: the end that was asked for
                             ^       ^ complete: at or behind the end
                             not yet: below the end

    """

    def __init__(self, jobs: list[_Job]) -> None:
        self.jobs = jobs
        self.next_offset = 0
        """Everything below this offset is read."""

    def read(self, message: Message) -> list[Partition]:
        """Use a record; returns the partitions whose ledgers are complete before it."""
        offset = message.offset() or 0
        complete = self.pass_over(offset)
        for job in self.jobs:
            job.partition.ledger.restore(message.key(), message.value(), message.timestamp()[1])
        return complete + self.pass_over(offset + 1)

    def pass_over(self, next_offset: int) -> list[Partition]:
        """Note that all below an offset is read; returns the partitions with complete ledgers."""
        self.next_offset = max(self.next_offset, next_offset)
        complete = [job.partition for job in self.jobs if job.end_offset <= self.next_offset]
        self.jobs = [job for job in self.jobs if job.end_offset > self.next_offset]
        return complete


class LedgerReader:
    """Reads the ledgers of partitions that were assigned, a part at each turn.

    Parameters
    ----------
    consumer
        A client of its own, read-committed, with end-of-partition events; it joins no group.
    topic
        The state topic.
    timeout_s
        Longest time without progress.
    system
        The clock.
    """

    def __init__(self, consumer: Consumer, topic: str, timeout_s: float, system: System) -> None:
        self._consumer = consumer
        self._topic = topic
        self._timeout_s = timeout_s
        self._system = system
        self._waiting: list[_Job] = []
        """Jobs whose state partition isn't being read, or whose reading began for earlier jobs."""
        self._scans: dict[int, Scan] = {}
        self._progress_s = 0.0
        self._warned_s = 0.0

    def connect(self, timeout_s: float) -> None:
        """Look the topic up; when partitions already wait, this costs the client a second.

        Raises
        ------
        KafkaException
            No broker answers in time.
        """
        self._consumer.list_topics(self._topic, timeout_s)

    def close(self) -> None:
        """Close its client."""
        self._consumer.close()

    @property
    def remaining(self) -> int:
        """Offsets that are still to be read; any thread may ask, so it holds only for a moment."""
        scans = list(self._scans.values())
        ahead = sum(
            max((job.end_offset for job in list(scan.jobs)), default=0) - scan.next_offset
            for scan in scans
        )
        return max(0, ahead) + sum(job.end_offset for job in list(self._waiting))

    def add(self, partition: Partition, end_offset: int) -> None:
        """Read a partition's ledger up to an offset of its state partition."""
        if not self._waiting and not self._scans:
            self._progress_s = self._system.monotonic()
        self._waiting.append(_Job(partition, end_offset))

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Stop reading for partitions that are released."""
        gone = set(partitions)
        self._waiting = [job for job in self._waiting if job.partition not in gone]
        for scan in self._scans.values():
            scan.jobs = [job for job in scan.jobs if job.partition not in gone]
        self._end_scans()

    def turn(self) -> list[Partition]:
        """Read the records that have come; returns the partitions whose ledgers are complete now.

        Raises
        ------
        StreamError
            There was no progress for too long, or the topic can't be read.
        """
        complete = self._begin_scans()
        if not self._scans:
            return complete
        before = {number: scan.next_offset for number, scan in self._scans.items()}
        for message in self._consumer.consume(READ_AT_ONCE, READ_WAIT_S):
            scan = self._scans.get(message.partition() or 0)
            if scan is None:
                continue
            error = message.error()
            if error is None:
                complete += scan.read(message)
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                # It has the last stable offset: this doesn't grow while a transaction is open.
                complete += scan.pass_over(message.offset() or 0)
            else:
                self._check_error(message.partition(), error)
        # Records that others write behind the end are no progress: reading ends there.
        if any(scan.next_offset > before[number] for number, scan in self._scans.items()):
            self._progress_s = self._system.monotonic()
        self._end_scans()
        self._check_progress()
        return complete

    def _begin_scans(self) -> list[Partition]:
        """Begin to read state partitions that jobs wait for; jobs that have nothing to read."""
        complete = [job.partition for job in self._waiting if job.end_offset == 0]
        waiting = [job for job in self._waiting if job.end_offset > 0]
        # A job that comes while its state partition is being read waits: it needs all of it.
        begun = {job.partition.number for job in waiting} - self._scans.keys()
        self._waiting = [job for job in waiting if job.partition.number not in begun]
        for number in begun:
            jobs = [job for job in waiting if job.partition.number == number]
            self._scans[number] = Scan(jobs)
        if begun:
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in begun]
            )
        return complete

    def _end_scans(self) -> None:
        """Stop reading state partitions for which no job is left."""
        ended = [number for number, scan in self._scans.items() if not scan.jobs]
        for number in ended:
            del self._scans[number]
        if not ended:
            return
        try:
            self._consumer.incremental_unassign([TopicPartition(self._topic, n) for n in ended])
        except KafkaException as error:
            raise StreamError(f"{self._topic} {ended}: {error.args[0].str()}") from None

    def _check_error(self, number: int | None, error: KafkaError) -> None:
        if error.retriable() and not error.fatal():
            return
        denied = explain_denied(error, {"topic": f"READ on {self._topic}"})
        raise denied or StreamError(f"can't read {self._topic}-{number}: {error.str()}")

    def _check_progress(self) -> None:
        """Warn while there is no progress, and raise after the timeout."""
        if not self._scans:
            return
        now_s = self._system.monotonic()
        names = ", ".join(f"{self._topic}-{number}" for number in sorted(self._scans))
        if now_s - self._progress_s > self._timeout_s:
            raise StreamError(
                f"{names}: no progress for {self._timeout_s:.0f} s, a transaction may be hanging: "
                "look for it with kafka-transactions.sh find-hanging"
            )
        if now_s - max(self._progress_s, self._warned_s) > WARN_S:
            self._warned_s = now_s
            logger.warning("%s: no progress yet, a transaction may be hanging", names)
