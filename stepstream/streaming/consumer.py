"""The consumer: the only loop, and the only place where messages, results and commits meet."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise, repeat
from operator import is_not
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from confluent_kafka import (
    OFFSET_BEGINNING,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka import Consumer as KafkaConsumer

from stepstream.detection.columns import first_rows
from stepstream.errors import StreamError
from stepstream.streaming.client_statistics import ClientStatistics
from stepstream.streaming.clients import (
    consumer_properties,
    explain_denied,
    explain_kafka_errors,
    producer_properties,
    state_consumer_properties,
)
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.commits import Aborted, AtLeastOnce, Committer, ExactlyOnce
from stepstream.streaming.outbox import Outbox, Sealed, seal
from stepstream.streaming.partitions import Partition, Phase
from stepstream.streaming.processor import Processor
from stepstream.streaming.reloading import ModelFile
from stepstream.streaming.restoring import LedgerReader, Position, look_up, plan_start
from stepstream.streaming.totals import Totals
from stepstream.streaming.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stepstream.detection import Model
    from stepstream.settings import Settings
    from stepstream.streaming.processor import Outputs, Record

    Watcher = Callable[[list[tuple[Partition, Outputs]]], None]

__all__ = ["Consumer"]

logger = logging.getLogger(__name__)

MAX_WAIT_S = 0.1
COMMIT_TIMEOUT_S = 30.0
COMMIT_CHECK_S = 0.005
RETRY_S = 0.02
"""Between attempts at the last commit."""
LOOK_UP_WARN_S = 10.0
RESTORE_WAIT_S = 0.01
"""Longest wait for messages while a partition is being prepared."""
MAX_QUESTIONS = 32
"""Questions of other threads that may wait for the end of a turn."""

PREPARING = {Phase.ASSIGNED, Phase.RESTORING}
TAKING = {Phase.REPLAYING, Phase.RUNNING}
T = TypeVar("T")


class Consumer:
    """Reads readings and publishes step events until it is told to stop.

    Parameters
    ----------
    settings
        All settings.
    model
        The network; by default the one that the settings name.
    cluster
        What answers questions about topics and offsets; by default the brokers themselves.

    Raises
    ------
    ModelError
        The model can't be used.
    StreamError
        A setting of the Kafka client is wrong.
    """

    def __init__(
        self, settings: Settings, model: Model | None = None, cluster: Cluster | None = None
    ) -> None:
        self._settings = settings
        self._model_file = ModelFile(settings.model)
        self.model = model or self._model_file.load()
        self.totals = Totals()
        self.processor = Processor(
            self.model, settings.processing, settings.kafka.group_id, self.totals
        )
        self.statistics = {"consumer": ClientStatistics(), "producer": ClientStatistics()}
        self.watchers: tuple[Watcher, ...] = ()
        """Called in the loop's thread with what a poll gave, while somebody watches."""
        self._questions: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._fatal_error: str | None = None
        self.outbox = Outbox()
        self.partitions: dict[tuple[str, int], Partition] = {}
        self._has_joined = False
        self._is_stopping = False
        self._callback_error: BaseException | None = None
        self._commits = ThreadPoolExecutor(1, "commit")
        self._running_commit: Future[None] | None = None
        self._committing: list[Sealed] = []
        self._last_commit_s = time.monotonic()
        self._look_ups = ThreadPoolExecutor(1, "look-up")
        self._running_look_up: Future[dict[Partition, Position]] | None = None
        self._look_up_progress_s = time.monotonic()
        self._look_up_warned_s = self._look_up_progress_s
        self._positions: dict[Partition, Position] = {}
        self._planned: dict[Partition, bool] = {}
        """Partitions whose start is known; whether it is to be committed at once."""
        self._paused = False
        self._is_behind = False
        """Whether the last poll was as large as a poll may be: more waits, no need to linger."""
        self._closing = False
        self._last_turn_s = time.monotonic()
        with explain_kafka_errors("kafka settings"):
            self._kafka = KafkaConsumer(
                {
                    **consumer_properties(settings),
                    "error_cb": self._note_error,
                    "stats_cb": self._note_statistics,
                },
                logger=logger,
            )
            self._cluster = cluster or Cluster(settings)
            self._ledger_reader = LedgerReader(
                KafkaConsumer(state_consumer_properties(settings), logger=logger),
                settings.topics.state,
                settings.processing.restore_timeout_s,
            )
            self._committer = self._make_committer()

    def _make_committer(self) -> Committer:
        settings = self._settings

        def make_producer() -> Producer:
            update = self.statistics["producer"].update
            return Producer({**producer_properties(settings), "stats_cb": update}, logger=logger)

        if settings.processing.guarantee == "exactly_once":
            transactional_id = settings.kafka.effective_transactional_id()
            return ExactlyOnce(make_producer, self._cluster, settings.topics, transactional_id)
        return AtLeastOnce(make_producer(), self._kafka, settings.topics)

    @property
    def is_live(self) -> bool:
        """Whether the loop has turned lately, and the client has met no fatal error."""
        is_turning = self.last_turn_age_s < self._settings.processing.stuck_after_s
        return is_turning and self._fatal_error is None

    @property
    def last_turn_age_s(self) -> float:
        """Seconds since the loop last turned."""
        return time.monotonic() - self._last_turn_s

    @property
    def is_ready(self) -> bool:
        """Whether this consumer is a member of its group and takes messages of all it owns."""
        return not self.obstacles

    @property
    def obstacles(self) -> list[str]:
        """What keeps this consumer from being ready, in words."""
        statistics = self.statistics["consumer"]
        is_connected = statistics.connections > 0 or not statistics.has_come
        starting = sum(p.phase is not Phase.RUNNING for p in self.owned)
        held = sum(p.is_held for p in self.owned)
        return [
            text
            for text, holds in (
                ("the loop is stuck", not self.is_live),
                ("not a member of the group yet", not self._has_joined),
                ("no connection to a broker", not is_connected),
                (f"{starting} partitions are being prepared", starting > 0),
                (f"{held} partitions are paused for too many dead letters", held > 0),
                ("reading is paused until results are published", self._paused),
            )
            if holds
        ]

    @property
    def owned(self) -> list[Partition]:
        """The partitions that this consumer owns; from any thread."""
        return list(self.partitions.values())

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read because too much waits to be published."""
        return self._paused

    @property
    def ledger_remaining(self) -> int:
        """Offsets of the state topic that are still to be read."""
        return self._ledger_reader.remaining

    @property
    def waiting_records(self) -> int:
        """Records that wait in the outbox or are being committed."""
        return len(self.outbox) + sum(map(len, self._committing))

    @property
    def is_settled(self) -> bool:
        """Whether all that was taken is committed; as seen from another thread, for a moment."""
        return self.outbox.is_empty and not self._committing

    @property
    def has_open_calls(self) -> bool:
        """Whether a thread is still in a call of the Kafka client; it can't be ended."""
        calls = (self._running_commit, self._running_look_up)
        return any(call is not None and not call.done() for call in calls)

    def stop(self) -> None:
        """End the loop after the poll that is being worked on; from any thread or a signal."""
        # No lock is taken: a signal may come while the same thread holds it.
        self._is_stopping = True

    def ask(self, question: Callable[[], T]) -> Future[T]:
        """Have a question answered in the loop's thread, between two polls; from any thread.

        Raises
        ------
        OverflowError
            Too many questions wait.
        """
        if len(self._questions) >= MAX_QUESTIONS:
            raise OverflowError("too many questions wait for the loop")
        future: Future[T] = Future()
        self._questions.append((future, question))
        return future

    def partition_count(self, topic: str) -> int:
        """Partitions of a topic; 0 if no broker says so in time; may wait, from any thread."""
        for partition in self.owned:
            if partition.topic == topic and partition.partition_count:
                return partition.partition_count
        try:
            return self._cluster.identify_topics([topic])[topic].partition_count
        except KafkaException:
            return 0

    def refresh_ends(self) -> None:
        """Ask where the partitions end that nothing is fetched of now; waits, from any thread."""
        paused = {(p.topic, p.number): p for p in self.owned if p.is_held or self._paused}
        # Where the brokers are away, the old ends have to do.
        with suppress(KafkaException):
            # Not by the consumer: its calls from another thread can wait for ever behind a poll.
            for name, end in self._cluster.offsets(paused, at_end=True, stable=True).items():
                paused[name].end_offset = end

    def reload_model(self) -> None:
        """Look at the model's file before the next poll, whether it changed or not."""
        self._model_file.ask()

    def run(self) -> None:
        """Process messages until `stop`; then commit what is finished and leave the group.

        Each turn of the loop:

        1. polls: all messages that have arrived,
        2. prepares partitions that a rebalance has assigned: where they start, what is counted,
        3. processes: decodes, detects, counts,
        4. seals the results in the outbox with the offsets behind them,
        5. commits, if something is due and no commit is under way: in a second thread, while the
           next turn runs.

        Raises
        ------
        StreamError
            Kafka refused something for good; what wasn't committed will be read again.
        """
        with explain_kafka_errors(f"can't start at {self._settings.kafka.bootstrap_servers}"):
            lacking = self._cluster.check_access()
            if lacking:
                raise StreamError(f"{'; '.join(lacking)} (docs/security.md lists all rights)")
            problems = self._cluster.check_topics()
            if problems:
                raise StreamError(f"{'; '.join(problems)}; create topics with: stepstream topics")
            self._committer.open(COMMIT_TIMEOUT_S)
            self._ledger_reader.connect(COMMIT_TIMEOUT_S)
        self._kafka.subscribe(
            list(self._settings.topics.readings),
            on_assign=self._guard(self._on_assign),
            on_revoke=self._guard(self._on_revoke),
            on_lost=self._guard(self._on_lost),
        )
        self._last_turn_s = time.monotonic()
        try:
            with Watchdog(lambda: self.is_live, self._settings.processing.stuck_after_s / 4):
                while not self._is_stopping:
                    self._turn()
                self._commit_last()
        finally:
            self.close()

    def _turn(self) -> None:
        self._last_turn_s = time.monotonic()
        self._replace_model()
        messages = self._poll()
        self._prepare_assigned()
        self._process(messages)
        self._commit_if_due()
        while self._questions:
            self._answer(*self._questions.popleft())

    @staticmethod
    def _answer(future: Future[Any], question: Callable[[], Any]) -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(question())
            except Exception as error:  # noqa: BLE001 - raised where it was asked
                future.set_exception(error)

    def _replace_model(self) -> None:
        """Go on with the model that took the place of the running one, if one did.

        What the new one has to remember of each device comes from a replay, as after a restart.
        """
        model = self._model_file.look(self.model)
        if model is not None:
            gone = self._let_go(self.owned)
            self.processor.replace_model(model)
            self.model = model
            if gone:
                self._prepare(gone)

    def close(self) -> None:
        """Leave the group without another commit; `run` does so by itself."""
        self._closing = True
        self._committer.close()
        self._look_ups.shutdown(wait=False, cancel_futures=True)
        self._commits.shutdown(wait=False, cancel_futures=True)
        self._ledger_reader.close()
        self._kafka.close()

    def _poll(self) -> list[Message]:
        """Messages that have arrived, in the order of each partition."""
        processing = self._settings.processing
        most = processing.poll_max_messages
        first = self._kafka.poll(self._wait_s())
        self._raise_callback_error()
        if first is None:
            self._is_behind = False
            return []
        if processing.linger_ms and most > 1 and not self._is_behind:
            time.sleep(processing.linger_ms / 1000)
        messages = [first, *self._kafka.consume(most - 1, 0)]
        self._raise_callback_error()
        self._is_behind = len(messages) == most
        return messages

    def _prepare_assigned(self) -> None:
        """Bring partitions that were assigned on their way to run, without waiting for it."""
        preparing = [p for p in self.partitions.values() if p.phase in PREPARING]
        if not preparing:
            return
        self._look_up([p for p in preparing if p.phase is Phase.ASSIGNED])
        restored = [] if self._ledger_reader.is_idle else self._ledger_reader.turn()
        for partition in restored:
            self._plan(partition)
        for partition in preparing:
            if partition in self._planned:
                self._begin(partition)

    def _look_up(self, assigned: list[Partition]) -> None:
        """Ask for offsets in a second thread; answers go to the ledger reader."""
        if self._running_look_up is None:
            if assigned:
                self._running_look_up = self._look_ups.submit(
                    look_up, self._cluster, self._settings.topics.state, assigned
                )
        elif self._running_look_up.done():
            future, self._running_look_up = self._running_look_up, None
            self._note_positions(assigned, future)

    def _note_positions(
        self, assigned: list[Partition], future: Future[dict[Partition, Position]]
    ) -> None:
        found: dict[Partition, Position] = {}
        reason = "a transaction may be hanging, see kafka-transactions.sh find-hanging"
        try:
            found = future.result()
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            reason = cause.str()
            denied = self._explain_denied(cause)
            if denied is not None:
                raise denied from None
        now_s = time.monotonic()
        if found or not assigned:
            self._look_up_progress_s = now_s
        elif now_s - self._look_up_progress_s > self._settings.processing.restore_timeout_s:
            raise StreamError(f"no committed offsets for {assigned}: {reason}")
        elif now_s - max(self._look_up_progress_s, self._look_up_warned_s) > LOOK_UP_WARN_S:
            self._look_up_warned_s = now_s
            logger.warning("still no committed offsets for %s: %s", assigned, reason)
        for partition, position in found.items():
            if partition.phase is Phase.ASSIGNED:
                partition.enter(Phase.RESTORING)
                partition.identify(position.topic, position.end_offset)
                partition.end_offset = position.end_offset
                partition.reached_offset = max(position.committed_offset, position.first_offset)
                self._positions[partition] = position
                self._ledger_reader.add(partition, position.state_end)

    def _plan(self, partition: Partition) -> None:
        """Decide where a partition starts, now that its ledger is there."""
        position = self._positions.pop(partition)
        start = plan_start(repr(partition), position, len(partition.ledger), self._settings)
        for warning in start.warnings:
            logger.warning(warning)
        partition.begin_at(start.offset, start.checkpoint)
        # Said at once, so that the group's start is remembered even if nothing ever arrives.
        self._planned[partition] = (
            start.offset != position.committed_offset
            or start.checkpoint is None
            or start.checkpoint.partition_count != partition.partition_count
        )

    def _begin(self, partition: Partition) -> None:
        """Go to where a partition starts, and start it."""
        tp = TopicPartition(partition.topic, partition.number, partition.next_offset)
        try:
            self._kafka.seek(tp)
        except KafkaException as error:
            if error.args[0].code() == KafkaError._STATE:  # noqa: SLF001 - its public name
                return
            raise StreamError(f"{partition!r}: {error.args[0].str()}") from None
        # A replay begins below the committed offset, which must not go down.
        if self._planned[partition] and not partition.is_replaying:
            first = [(partition, self.processor.first_outputs(partition, _now_us()))]
            try:
                # At-least-once publishes before it commits: were nothing committed here before
                # that, a successor would find step counts and no offset.
                self._committer.complete(seal(first))
            except Aborted as aborted:
                logger.warning("%r can't start yet: %s", partition, aborted)
                return
            self.outbox.seal(first)
        del self._planned[partition]
        if not self._paused:
            self._kafka.resume([tp])
        partition.enter(Phase.REPLAYING if partition.is_replaying else Phase.RUNNING)
        if partition.phase is Phase.RUNNING:
            self._note_started(partition)
        logger.info(
            "partition started",
            extra={
                "partition": repr(partition),
                "offset": partition.publish_from,
                "replay": partition.publish_from - partition.next_offset,
                "devices": len(partition.ledger),
            },
        )

    def _process(self, messages: list[Message]) -> None:
        polled = self._by_partition(messages)
        taken: list[tuple[Partition, Sequence[Record]]] = [
            (partition, cast("Sequence[Record]", records))
            for name, records in polled.items()
            if (partition := self.partitions.get(name))
            and partition.phase in TAKING
            and not partition.is_held
        ]
        if taken:
            begin_s = time.monotonic()
            results = self.processor.process(taken, _now_us())
            for partition, _ in results:
                if partition.phase is Phase.REPLAYING and not partition.is_replaying:
                    partition.enter(Phase.RUNNING)
                    self._note_started(partition)
            self.outbox.seal(
                (partition, outputs)
                for partition, outputs in results
                if partition.phase is Phase.RUNNING
            )
            totals = self.totals
            totals.polls += 1
            totals.batch_messages.add(sum(len(records) for _, records in taken))
            totals.processing_s += time.monotonic() - begin_s
            for _, outputs in results:
                totals.messages += outputs.messages
                totals.readings += outputs.readings
                totals.replayed += outputs.replayed
                totals.events += len(outputs.events)
                totals.dead_letters.update(letter.code for letter in outputs.dead_letters)
            for partition, outputs in results:
                if outputs.dead_letters and partition.limit.exceeded:
                    self._limit(partition)
            for watcher in self.watchers:
                watcher(results)
        self._hold_back()

    def _by_partition(self, messages: list[Message]) -> dict[tuple[Any, Any], list[Message]]:
        """Messages of each topic and partition; errors among them are dealt with."""
        polled: defaultdict[tuple[Any, Any], list[Message]] = defaultdict(list)
        if not messages:
            return polled
        kind = type(messages[0])
        errors = list(map(kind.error, messages))
        # By identity: the client's errors leave an exception behind when compared with None.
        if any(map(is_not, errors, repeat(None))):
            for message, error in zip(messages, errors, strict=True):
                if error is not None:
                    self._on_message_error(message, error)
            messages = [m for m, error in zip(messages, errors, strict=True) if error is None]
        # Messages of a partition come in long runs, so that only their ends are looked at singly.
        place = np.fromiter(map(kind.partition, messages), np.intp, len(messages))
        topics = self._settings.topics.readings
        if len(topics) > 1:
            topic = np.fromiter(map(topics.index, map(kind.topic, messages)), np.intp)
            place = place * len(topics) + topic
        for begin, end in pairwise([*first_rows(place).tolist(), len(messages)]):
            name = messages[begin].topic(), messages[begin].partition()
            polled[name] += messages[begin:end]
        return polled

    def _limit(self, partition: Partition) -> None:
        """Keep a sender of rubbish from draining its partition into the dead letters."""
        action = self._settings.processing.on_dead_letter_limit
        what = f"{partition!r}: {partition.limit.exceeded}"
        if action == "stop":
            raise StreamError(f"{what} (processing.on_dead_letter_limit is stop)")
        if action == "pause":
            self._kafka.pause([TopicPartition(partition.topic, partition.number)])
            partition.is_held = True
            logger.error("partition paused until a restart", extra={"reason": what})
        elif not partition.is_warned:
            partition.is_warned = True
            logger.warning("too many dead letters", extra={"reason": what})

    def _hold_back(self) -> None:
        """Pause reading while too much waits to be published; polling goes on."""
        waiting = self.waiting_records
        limit = self._settings.processing.outbox_max_records
        owned = _topic_partitions(
            p for p in self.partitions.values() if p.phase in TAKING and not p.is_held
        )
        if not self._paused and waiting > limit:
            self._kafka.pause(owned)
            self._paused = True
            logger.warning(
                "reading is paused until results are published", extra={"records": waiting}
            )
        elif self._paused and waiting <= limit // 2:
            self._kafka.resume(owned)
            self._paused = False
            logger.info("reading goes on")

    def _wait_s(self) -> float:
        """Time until a commit is due, or until the running one is looked at again."""
        if any(p.phase in PREPARING for p in self.partitions.values()):
            return RESTORE_WAIT_S
        if self.outbox.is_empty:
            return MAX_WAIT_S
        least_s = COMMIT_CHECK_S if self._running_commit is not None else 0.0
        return min(MAX_WAIT_S, max(least_s, self._commit_due_s() - time.monotonic()))

    def _commit_due_s(self) -> float:
        processing = self._settings.processing
        results = len(self.outbox) > 0
        interval_ms = processing.output_interval_ms if results else processing.commit_interval_ms
        return self._last_commit_s + min(interval_ms, processing.commit_interval_ms) / 1000

    def _commit_if_due(self) -> None:
        if self._running_commit is not None:
            if not self._running_commit.done():
                if self._committer.is_hanging:
                    raise StreamError("a commit hangs in the Kafka client; a restart loses nothing")
                return
            self._finish_commit()
        due = not self.outbox.is_empty and time.monotonic() >= self._commit_due_s()
        if due and self._kafka.memberid():
            self._begin_commit(COMMIT_TIMEOUT_S)

    def _begin_commit(self, timeout_s: float) -> None:
        self._committing = self.outbox.take()
        self._last_commit_s = time.monotonic()
        self._running_commit = self._commits.submit(
            self._commit,
            self._committing,
            self._kafka.consumer_group_metadata(),
            time.monotonic() + timeout_s,
        )

    def _commit(self, taken: list[Sealed], group: object, deadline_s: float) -> None:
        """What the second thread does."""
        begin_s = time.monotonic()
        records = sum(map(len, taken))
        try:
            self._committer.commit(taken, group, deadline_s)
        finally:
            took_s = time.monotonic() - begin_s
            self.totals.commit_s.add(took_s)
        logger.debug("committed", extra={"records": records, "seconds": round(took_s, 4)})
        for sealed in taken:
            sealed.times.measure(self.totals, _now_us() / 1e6)

    def _finish_commit(self, timeout_s: float | None = None) -> bool:
        """Wait for the running commit; whether everything taken is committed."""
        if self._running_commit is None:
            return True
        committed = self._committing
        try:
            self._running_commit.result(timeout_s)
            # Under a new membership, Kafka would take offsets of partitions that were lost before.
            owned = [s for s in committed if s.partition.phase is not Phase.RELEASED]
            self._committer.complete(owned)
        except Aborted as aborted:
            logger.warning("commit aborted, to be repeated: %s", aborted)
            self.totals.aborts += 1
            self.outbox.put_back(s for s in aborted.left if s.partition.phase is not Phase.RELEASED)
            return False
        except TimeoutError:
            return False
        finally:
            if self._running_commit.done():
                self._running_commit = None
                self._committing = []
        for sealed in owned:
            sealed.partition.committed(sealed.next_offset)
        self.totals.commits += 1
        return True

    def _commit_now(self, timeout_s: float) -> bool:
        """One attempt to commit all that is sealed."""
        self._finish_commit(timeout_s)
        if self._running_commit is not None:
            return False
        if self.outbox.is_empty:
            return True
        if not self._kafka.memberid():
            return False
        self._begin_commit(timeout_s)
        return self._finish_commit(timeout_s + 1)

    def _commit_last(self) -> None:
        """Commit everything that is sealed before the consumer leaves."""
        timeout_s = self._settings.processing.shutdown_timeout_s
        deadline_s = time.monotonic() + timeout_s
        while not self._commit_now(max(0.1, deadline_s - time.monotonic())):
            if time.monotonic() > deadline_s:
                raise StreamError("results were not committed in time; they will be computed again")
            # A rebalance may stand in the way, and it goes on in polls only.
            self._kafka.poll(RETRY_S)
            self._raise_callback_error()

    def _on_assign(self, _consumer: KafkaConsumer, assigned: list[TopicPartition]) -> None:
        self._has_joined = True
        self.totals.rebalances["assigned"] += 1
        self._prepare(assigned)

    def _prepare(self, assigned: list[TopicPartition]) -> None:
        """Take over partitions, paused until the loop knows where they start."""
        for tp in assigned:
            partition = self.processor.add_partition(tp.topic, tp.partition)
            partition.assigned_s = time.monotonic()
            self.partitions[tp.topic, tp.partition] = partition
        self._look_up_progress_s = time.monotonic()
        # At an explicit offset that is never out of range, or the client would look up one itself
        # or give the partition up, which a seek doesn't mend.
        self._kafka.incremental_assign(
            [TopicPartition(tp.topic, tp.partition, OFFSET_BEGINNING) for tp in assigned]
        )
        self._kafka.pause(assigned)

    def _on_revoke(self, _consumer: KafkaConsumer, revoked: list[TopicPartition]) -> None:
        self.totals.rebalances["revoked"] += 1
        try:
            if not self._closing:
                self._commit_now(self._settings.processing.shutdown_timeout_s)
        finally:
            self._forget(revoked)
            self._kafka.incremental_unassign(revoked)

    def _on_lost(self, _consumer: KafkaConsumer, lost: list[TopicPartition]) -> None:
        self.totals.rebalances["lost"] += 1
        logger.warning("partitions lost", extra={"partitions": [_name(tp) for tp in lost]})
        self._forget(lost)
        self._kafka.incremental_unassign(lost)

    def _forget(self, gone: list[TopicPartition]) -> None:
        partitions = [
            partition
            for tp in gone
            if (partition := self.partitions.pop((tp.topic, tp.partition), None))
        ]
        for partition in partitions:
            partition.enter(Phase.RELEASED)
            self.processor.remove_partition(partition)
            self._positions.pop(partition, None)
            self._planned.pop(partition, None)
        self.outbox.drop(partitions)
        self._ledger_reader.drop(partitions)
        logger.info("partitions released", extra={"partitions": sorted(map(repr, partitions))})

    def _let_go(self, partitions: list[Partition]) -> list[TopicPartition]:
        """Commit and forget partitions that are still ours, to be prepared anew."""
        gone = _topic_partitions(partitions)
        if gone:
            self._commit_now(COMMIT_TIMEOUT_S)
            self._forget(gone)
            self._kafka.incremental_unassign(gone)
        return gone

    def _guard(
        self, callback: Callable[[KafkaConsumer, list[TopicPartition]], None]
    ) -> Callable[[KafkaConsumer, list[TopicPartition]], None]:
        # An exception that leaves a callback would destroy messages that the poll has taken.
        def guarded(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
            try:
                callback(consumer, partitions)
            except BaseException as error:  # noqa: BLE001 - raised again after the poll
                self._callback_error = error

        return guarded

    def _raise_callback_error(self) -> None:
        if self._callback_error is not None:
            error, self._callback_error = self._callback_error, None
            raise error

    def _on_message_error(self, message: Message, error: KafkaError) -> None:
        name: tuple[Any, Any] = (message.topic(), message.partition())
        partition = self.partitions.get(name)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            if partition is not None and partition.phase in TAKING and not partition.is_held:
                partition.reached_offset = message.offset() or 0
            return
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            if partition is not None and partition.phase in TAKING:
                # Its next message is gone: deleted, or never there.
                self._prepare(self._let_go([partition]))
            return
        if error.fatal():
            raise StreamError(f"the consumer can't go on: {error.str()}")
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise StreamError(f"{error.str()}; create the topics with: stepstream topics")
        denied = self._explain_denied(error)
        if denied is not None:
            raise denied
        logger.warning("consumer: %s", error.str())

    def _note_started(self, partition: Partition) -> None:
        self.totals.start_s.add(time.monotonic() - partition.assigned_s)

    def _note_error(self, error: KafkaError) -> None:
        """Note what the client can't go on after; it logs what it can itself."""
        if error.fatal():
            self._fatal_error = error.str()
            logger.error("fatal error of the Kafka client: %s", error.str())

    def _note_statistics(self, text: str) -> None:
        """Take in where partitions end; called by the client in a poll, once a second."""
        statistics = self.statistics["consumer"]
        statistics.update(text)
        now_ms = _now_us() // 1000
        for partition in self.partitions.values():
            known = statistics.partition(partition.topic, partition.number)
            # What the client knows of a paused partition is what it was: see `refresh_ends`.
            is_fetched = partition.phase in TAKING and not (partition.is_held or self._paused)
            if is_fetched and known is not None and known.ls_offset >= 0:
                partition.note_end(known.ls_offset, now_ms)

    def _explain_denied(self, error: KafkaError) -> StreamError | None:
        topics = self._settings.topics
        needed = {
            "topic": f"READ on {', '.join([*topics.readings, topics.state])}",
            "group": f"READ on {self._settings.kafka.group_id}",
        }
        return explain_denied(error, needed)


def _now_us() -> int:
    return time.time_ns() // 1000


def _topic_partitions(partitions: Iterable[Partition]) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.number) for p in partitions]


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}-{tp.partition}"
