"""From an assigned partition to a running one: committed offset, ledger, start, replay."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stepstream.errors import AbnormalStartError, StreamError
from stepstream.streaming.clients import explain_denied, rights_to_consume
from stepstream.streaming.partitions import Partition, Phase
from stepstream.streaming.starts import LookUp, look_up, plan_start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

    from confluent_kafka import Consumer

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.commits import Commits
    from stepstream.streaming.flow import FlowControl
    from stepstream.streaming.ledger_reader import LedgerReader
    from stepstream.streaming.processor import Processor
    from stepstream.streaming.subscription import Subscription
    from stepstream.streaming.system import System
    from stepstream.streaming.totals import Totals

__all__ = ["Preparation"]

logger = logging.getLogger(__name__)

WARN_S = 10.0


class Preparation:
    """Prepares assigned partitions: a part of the work in each turn, while other partitions run.

    The order matters::

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
        Gives the first results of a partition.
    flow
        Lets partitions be fetched.
    commits
        Commits the first offset of a partition.
    subscription
        Says how partitions of a topic start.
    settings
        All settings.
    totals
        Where starts are counted.
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
        subscription: Subscription,
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
        self._subscription = subscription
        self._settings = settings
        self._totals = totals
        self._system = system
        self._look_up_thread = system.executor("look-up")
        self._look_up: Future[LookUp] | None = None
        self._progress_s = 0.0
        self._warned_s = 0.0

    @property
    def has_open_call(self) -> bool:
        """Whether a thread is still in a call of the Kafka client; it can't be ended."""
        running = self._look_up
        return running is not None and not running.done()

    def begin(self) -> None:
        """Note that partitions were assigned, which is progress."""
        self._progress_s = self._system.monotonic()

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Stop preparing partitions that are released."""
        self._ledger_reader.drop(partitions)

    def close(self) -> None:
        """End look-ups."""
        self._look_up_thread.shutdown(wait=False, cancel_futures=True)

    def turn(self, owned: Iterable[Partition]) -> None:
        """Continue to prepare assigned partitions, without waiting for anything.

        Raises
        ------
        StreamError
            A start is abnormal, there is no progress, or a right is missing.
        """
        preparing = [partition for partition in owned if partition.phase.is_preparing]
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
                start_at = self._settings.kafka.start_at
                begin = start_at if isinstance(start_at, datetime) else None
                self._look_up = self._look_up_thread.submit(
                    look_up, self._cluster, self._settings.topics.state, assigned, begin
                )
        elif self._look_up.done():
            done, self._look_up = self._look_up, None
            self._note_positions(assigned, done)

    def _note_positions(self, assigned: list[Partition], done: Future[LookUp]) -> None:
        found = LookUp({}, {})
        reason = "a transaction may be hanging, see kafka-transactions.sh find-hanging"
        try:
            found = done.result()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            reason = cause.str()
            denied = explain_denied(cause, rights_to_consume(self._settings))
            if denied is not None:
                raise denied from None
        else:
            reason = next(iter(found.missing.values()), reason)
        # If what they need is missing, partitions of topics that only match a pattern wait for it.
        waiting = {p for p in found.missing if self._subscription.is_matched(p.topic)}
        now_s = self._system.monotonic()
        if found.positions or not set(assigned) - waiting:
            self._progress_s = now_s
        elif now_s - self._progress_s > self._settings.processing.restore_timeout_s:
            raise StreamError(f"{assigned}: committed offsets can't be read: {reason}")
        elif now_s - max(self._progress_s, self._warned_s) > WARN_S:
            self._warned_s = now_s
            logger.warning("%s: committed offsets can't be read yet: %s", assigned, reason)
        for partition, position in found.positions.items():
            if partition.phase is Phase.ASSIGNED:
                partition.restore_from(position)
                self._ledger_reader.add(partition, position.state_end)

    def _plan(self, partition: Partition) -> None:
        """Decide where a partition starts, now that its ledger is complete."""
        if partition.position is None:
            raise RuntimeError(f"{partition!r} has a ledger and no position")
        size = len(partition.ledger)
        topic = partition.topic
        try:
            start = plan_start(
                repr(partition),
                partition.position,
                size,
                self._settings,
                self._subscription.start_rules(topic, partition.number),
                is_recreated=not partition.ledger.is_of_this_topic,
                counted_to=partition.ledger.counted_to,
            )
        except AbnormalStartError as error:
            if not self._subscription.is_matched(topic):
                raise
            logger.error("%s; until then, nothing of it is read", error)  # noqa: TRY400 - its place says nothing
            partition.enter(Phase.REFUSED)
            return
        if start.range.model not in {"", partition.ledger.model}:
            raise StreamError(
                f"{partition!r}: the backfill was begun with the model {start.range.model}, and "
                f"this process has {partition.ledger.model}: continue with the same, or begin "
                "another backfill"
            )
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
        if partition.has_ended:
            partition.enter(Phase.ENDED)
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
