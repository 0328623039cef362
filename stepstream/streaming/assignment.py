"""Owned partitions: their preparation after the assignment, and their release."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_denied
from stepstream.streaming.partitions import Partition, PauseReason, Phase
from stepstream.streaming.starts import look_up, plan_start

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Future

    from confluent_kafka import Consumer

    from stepstream.settings import Settings
    from stepstream.streaming.client_statistics import ClientStatistics
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.commits import Commits
    from stepstream.streaming.flow import FlowControl
    from stepstream.streaming.ledger_reader import LedgerReader
    from stepstream.streaming.processor import Processor
    from stepstream.streaming.starts import Position
    from stepstream.streaming.system import System
    from stepstream.streaming.totals import Totals

__all__ = ["Assignment"]

logger = logging.getLogger(__name__)

WARN_S = 10.0


class Assignment:
    """The partitions that this consumer owns.

    The group's callbacks only note what is owned: they run inside a poll, and must be short.
    `prepare` then does a part of the preparation in each turn, while other partitions run. The
    order matters::

        look up the committed offset        stable: no transaction may still change it
        look up the end of the state        all that was committed with that offset is below it
        read the ledger up to that end      counted steps
        plan the start, seek there
        replay up to the committed offset   windows
        run

    Parameters
    ----------
    kafka
        The consumer of readings.
    cluster
        Answers questions about offsets.
    ledger_reader
        Reads ledgers.
    processor
        Has the devices of the partitions.
    flow
        Pauses partitions while they are prepared.
    commits
        Commits the results of partitions before they are released.
    settings
        All settings.
    totals
        Where rebalances and starts are counted.
    system
        Clock and threads.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - it stands between all of them
        self,
        kafka: Consumer,
        cluster: Cluster,
        ledger_reader: LedgerReader,
        processor: Processor,
        flow: FlowControl,
        commits: Commits,
        settings: Settings,
        totals: Totals,
        system: System,
    ) -> None:
        self._kafka = kafka
        self._cluster = cluster
        self._ledger_reader = ledger_reader
        self._processor = processor
        self._flow = flow
        self._commits = commits
        self._settings = settings
        self._totals = totals
        self._system = system
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._look_up_thread = system.executor("look-up")
        self._look_up: Future[dict[Partition, Position]] | None = None
        self._look_up_progress_s = 0.0
        self._look_up_warned_s = 0.0
        self._is_closing = False
        self.is_member = False
        """Whether the group has assigned its partitions (or none), and they aren't lost."""

    @property
    def owned(self) -> list[Partition]:
        """The partitions that this consumer owns; any thread may ask."""
        return list(self._partitions.values())

    def get(self, topic: str | None, number: int | None) -> Partition | None:
        """An owned partition, if it is one."""
        return self._partitions.get((topic, number))  # type: ignore[arg-type]

    @property
    def is_preparing(self) -> bool:
        """Whether a partition is being prepared."""
        return any(partition.phase.is_preparing for partition in self._partitions.values())

    @property
    def has_open_call(self) -> bool:
        """Whether a thread is still in a call of the Kafka client; it can't be ended."""
        running = self._look_up
        return running is not None and not running.done()

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Add partitions that the group has assigned."""
        self._totals.rebalances["assigned"] += 1
        self.is_member = True
        self.add([(tp.topic, tp.partition) for tp in partitions])

    def revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit the results of partitions, then release them."""
        self._totals.rebalances["revoked"] += 1
        try:
            if not self._is_closing:
                self._commits.commit_all(self._settings.processing.shutdown_timeout_s)
        finally:
            self._release(partitions)

    def lose(self, partitions: Sequence[TopicPartition]) -> None:
        """Release partitions that may belong to another consumer by now."""
        self._totals.rebalances["lost"] += 1
        self.is_member = False
        names = sorted(f"{tp.topic}-{tp.partition}" for tp in partitions)
        logger.warning("partitions lost", extra={"partitions": names})
        self._release(partitions)

    def restart(self, partitions: Sequence[Partition]) -> None:
        """Release partitions that this consumer still owns, and prepare them again."""
        self.add(self.release(partitions))

    def release(self, partitions: Sequence[Partition]) -> list[tuple[str, int]]:
        """Commit the results of partitions that are still owned, and release them; their names."""
        names = [(partition.topic, partition.number) for partition in partitions]
        if names:
            # What can't be committed in time is computed again.
            self._commits.commit_all(self._settings.processing.stuck_after_s / 4)
            self._release([TopicPartition(*name) for name in names])
        return names

    def add(self, names: Sequence[tuple[str, int]]) -> None:
        """Add partitions, by topic and number, and pause them until they have started."""
        now_s = self._system.monotonic()
        added = [self._processor.add_partition(topic, number) for topic, number in names]
        for partition in added:
            partition.assigned_s = now_s
            self._partitions[partition.topic, partition.number] = partition
        self._look_up_progress_s = now_s
        # An explicit offset that is never out of range. Otherwise the client would look one up
        # itself, or stop reading the partition, and a seek would not start it again.
        self._kafka.incremental_assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in names]
        )
        self._flow.pause(added, PauseReason.PREPARING)

    def close(self) -> None:
        """Commit nothing more when partitions are revoked, and end look-ups."""
        self._is_closing = True
        self._look_up_thread.shutdown(wait=False, cancel_futures=True)

    def _release(self, released: Sequence[TopicPartition]) -> None:
        found = (self._partitions.pop((tp.topic, tp.partition), None) for tp in released)
        partitions = [partition for partition in found if partition is not None]
        for partition in partitions:
            partition.enter(Phase.RELEASED)
            self._processor.remove_partition(partition)
        self._commits.drop(partitions)
        self._ledger_reader.drop(partitions)
        self._kafka.incremental_unassign(list(released))
        logger.info("partitions released", extra={"partitions": sorted(map(repr, partitions))})

    def prepare(self) -> None:
        """Continue to prepare assigned partitions, without waiting for anything.

        Raises
        ------
        StreamError
            A start is abnormal, there is no progress, or a right is missing.
        """
        preparing = [p for p in self._partitions.values() if p.phase.is_preparing]
        if not preparing:
            return
        self._look_up_positions([p for p in preparing if p.phase is Phase.ASSIGNED])
        for partition in self._ledger_reader.turn():
            self._plan(partition)
        for partition in preparing:
            if partition.phase is Phase.STARTING:
                self._start(partition)

    def _look_up_positions(self, assigned: list[Partition]) -> None:
        """Ask for offsets in a second thread; the ledger reader gets the answers."""
        if self._look_up is None:
            if assigned:
                self._look_up = self._look_up_thread.submit(
                    look_up, self._cluster, self._settings.topics.state, assigned
                )
        elif self._look_up.done():
            done, self._look_up = self._look_up, None
            self._note_positions(assigned, done)

    def _note_positions(
        self, assigned: list[Partition], done: Future[dict[Partition, Position]]
    ) -> None:
        found: dict[Partition, Position] = {}
        reason = "a transaction may be hanging, see kafka-transactions.sh find-hanging"
        try:
            found = done.result()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            reason = cause.str()
            self.raise_if_denied(cause)
        now_s = self._system.monotonic()
        if found or not assigned:
            self._look_up_progress_s = now_s
        elif now_s - self._look_up_progress_s > self._settings.processing.restore_timeout_s:
            raise StreamError(f"{assigned}: committed offsets can't be read: {reason}")
        elif now_s - max(self._look_up_progress_s, self._look_up_warned_s) > WARN_S:
            self._look_up_warned_s = now_s
            logger.warning("%s: committed offsets can't be read yet: %s", assigned, reason)
        for partition, position in found.items():
            if partition.phase is Phase.ASSIGNED:
                partition.restore_from(position)
                self._ledger_reader.add(partition, position.state_end)

    def _plan(self, partition: Partition) -> None:
        """Decide where a partition starts, now that its ledger is complete."""
        if partition.position is None:
            raise RuntimeError(f"{partition!r} has a ledger and no position")
        size = len(partition.ledger)
        start = plan_start(repr(partition), partition.position, size, self._settings)
        for warning in start.warnings:
            logger.warning(warning)
        partition.start_at(start)

    def _start(self, partition: Partition) -> None:
        """Seek to the start of a partition; if that fails, the next turn tries again."""
        try:
            self._kafka.seek(
                TopicPartition(partition.topic, partition.number, partition.next_offset)
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:  # noqa: SLF001 - its public name
                return
            raise StreamError(f"{partition!r}: {error.args[0].str()}") from None
        if partition.must_commit_start:
            first = self._processor.first_results(partition, self._system.now_us())
            if not self._commits.commit_offsets(first):
                return
        partition.enter(Phase.REPLAYING if partition.is_replaying else Phase.RUNNING)
        self._flow.start(partition)
        if partition.phase is Phase.RUNNING:
            self._note_running(partition)
        logger.info(
            "partition started",
            extra={
                "partition": repr(partition),
                "offset": partition.publish_from,
                "replay": partition.publish_from - partition.next_offset,
                "devices": len(partition.ledger),
            },
        )

    def end_replays(self, partitions: Iterable[Partition]) -> None:
        """Partitions whose replay is complete run from now on."""
        for partition in partitions:
            if partition.phase is Phase.REPLAYING and not partition.is_replaying:
                partition.enter(Phase.RUNNING)
                self._note_running(partition)

    def _note_running(self, partition: Partition) -> None:
        self._totals.start_s.add(self._system.monotonic() - partition.assigned_s)

    def note_ends(self, statistics: ClientStatistics) -> None:
        """Note where partitions end, from what the client says once a second."""
        now_ms = self._system.now_us() // 1000
        for partition in self._partitions.values():
            known = statistics.partition(partition.topic, partition.number)
            # What the client knows of a paused partition may be old: see `refresh_ends`.
            is_fetched = partition.phase.is_consuming and not partition.pause_reasons
            if is_fetched and known is not None and known.ls_offset >= 0:
                partition.note_end(known.ls_offset, now_ms)

    def refresh_ends(self) -> None:
        """Look up where paused partitions end; waits for the answer; any thread may call it."""
        paused = {
            (p.topic, p.number): p for p in self.owned if p.phase.is_consuming and p.pause_reasons
        }
        # While no broker answers, the old ends remain.
        with suppress(KafkaException):
            # Not by the consumer: a call of it from another thread can wait forever behind a poll.
            for name, end in self._cluster.offsets(paused, at_end=True, stable=True).items():
                paused[name].lag.end_offset = end

    def partition_count(self, topic: str) -> int:
        """Number of a topic's partitions, 0 if no broker answers in time; from any thread."""
        for partition in self.owned:
            identity = partition.topic_identity
            if partition.topic == topic and identity is not None:
                return identity.partition_count
        try:
            return self._cluster.identify_topics([topic])[topic].partition_count
        except KafkaException:
            return 0

    def raise_if_denied(self, error: KafkaError) -> None:
        """Raise a `StreamError` that names the rights, if the error says that one is missing."""
        topics = self._settings.topics
        needed = {
            "topic": f"READ on {', '.join([*topics.readings, topics.state])}",
            "group": f"READ on {self._settings.kafka.group_id}",
        }
        denied = explain_denied(error, needed)
        if denied is not None:
            raise denied from None
