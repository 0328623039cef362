"""The consumer: the loop, and how its parts are put together."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from stepstream.errors import StreamError
from stepstream.streaming.assignment import Assignment
from stepstream.streaming.at_least_once import AtLeastOnce
from stepstream.streaming.calls import Calls
from stepstream.streaming.client_statistics import ClientStatistics
from stepstream.streaming.clients import explain_kafka_errors, refresh_interval_s
from stepstream.streaming.commits import COMMIT_TIMEOUT_S, UNCOMMITTED_AFTER_S, Commits
from stepstream.streaming.connections import Connections
from stepstream.streaming.ends import Ends
from stepstream.streaming.exactly_once import ExactlyOnce
from stepstream.streaming.flow import FlowControl
from stepstream.streaming.health import Health
from stepstream.streaming.holding import Holds
from stepstream.streaming.ledger_reader import LedgerReader
from stepstream.streaming.membership import Membership
from stepstream.streaming.partitions import Phase
from stepstream.streaming.polls import group_by_partition, split_errors
from stepstream.streaming.preparation import Preparation
from stepstream.streaming.processor import Processor
from stepstream.streaming.range_ends import RangeEnds
from stepstream.streaming.reloading import ModelFile
from stepstream.streaming.retention import Retention
from stepstream.streaming.schema_waits import SchemaWaits
from stepstream.streaming.subscription import Subscription
from stepstream.streaming.system import System
from stepstream.streaming.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import KafkaError, Message, Producer

    from stepstream.detection import Model
    from stepstream.settings import Settings
    from stepstream.streaming.committer import Committer
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.partitions import Partition

    Watcher = Callable[[Sequence[Results]], None]

__all__ = ["Consumer"]

logger = logging.getLogger(__name__)

MAX_WAIT_S = 0.1
PREPARING_WAIT_S = 0.01  # while a partition is being prepared
STALLED_S = 1.0
"""Results that wait longer than this are not committed as they should be."""
GIVES_UP = "the consumer can't continue"


class Consumer:
    """Reads readings and publishes step events until it is told to stop.

    Parameters
    ----------
    settings
        All settings.
    model
        The network; by default the one that the settings name.
    connections
        Makes the Kafka clients.
    system
        Clock and threads.

    Raises
    ------
    ModelError
        The model can't be used.
    StreamError
        A setting of the Kafka client is wrong.
    """

    def __init__(
        self,
        settings: Settings,
        model: Model | None = None,
        connections: Connections | None = None,
        system: System | None = None,
    ) -> None:
        self._settings = settings
        self.connections = connections or Connections(settings)
        self._system = system or System()
        self._model_file = ModelFile(settings.model, self._system.monotonic)
        self.model = model or self._model_file.load()
        self.totals = Totals()
        self.statistics = {"consumer": ClientStatistics(), "producer": ClientStatistics()}
        self.calls = Calls()
        """Calls of other threads, which the loop makes between two polls."""
        self.watchers: tuple[Watcher, ...] = ()
        """Called in the loop's thread with the results of each poll."""
        self.processor = Processor(self.model, settings, self.totals)
        with explain_kafka_errors("kafka settings"):
            self._kafka = self.connections.consumer(
                self._guard(self._note_error), self._guard(self._note_statistics)
            )
            self._cluster = self.connections.cluster()
            self._ledger_reader = LedgerReader(
                self.connections.state_consumer(),
                settings.topics.state,
                settings.processing.restore_timeout_s,
                self._system,
            )
            self._committer = self._make_committer()
        self.subscription = Subscription(
            self._kafka, self._cluster, settings, refresh_interval_s(settings), self._system
        )
        self.flow = FlowControl(self._kafka, settings.processing)
        self.membership = Membership(
            self._kafka, settings, self.statistics["consumer"], self._system
        )
        self.commits = Commits(
            self._committer, self.membership, settings.processing, self.totals, self._system
        )
        self.preparation = Preparation(
            self._kafka,
            self._cluster,
            self._ledger_reader,
            self.processor,
            self.flow,
            self.commits,
            self.subscription,
            settings,
            self.totals,
            self._system,
        )
        self.assignment = Assignment(
            self._kafka,
            self.membership,
            self.processor,
            self.flow,
            self.commits,
            self.preparation,
            self.subscription,
            settings,
            self.totals,
            self._system,
        )
        self.schema_waits = SchemaWaits(self._kafka, self.processor, self.flow, self._system)
        self.range_ends = RangeEnds(self.processor, self.flow, self.commits, self._system)
        self.holds = Holds(self._cluster, self.commits, self.assignment, self._system)
        self.ends = Ends(self.assignment, self._cluster, self._system)
        self.retention = Retention(self.assignment, self._cluster, self._system)
        self._is_stopping = False
        self.has_joined = False
        """Whether it takes part in its group: before, nobody waits for it."""
        self._is_behind = False
        """Whether the last poll was full: more messages wait, so the loop doesn't linger."""
        self._fatal_error = ""
        self._callback_error: BaseException | None = None
        self._last_turn_s = self._system.monotonic()

    def _make_committer(self) -> Committer:
        settings = self._settings

        def make_producer() -> Producer:
            # Unguarded: a fatal error that the client is raising comes through, to the commit.
            return self.connections.producer(self.statistics["producer"].update)

        if settings.processing.guarantee == "exactly_once":
            return ExactlyOnce(make_producer, self._cluster, settings, self._system)
        return AtLeastOnce(make_producer(), self._kafka, settings.topics, self._system)

    @property
    def health(self) -> Health:
        """The state of this consumer; any thread may ask."""
        statistics = self.statistics["consumer"]
        owned = self.assignment.owned
        return Health(
            fatal_error=self._fatal_error,
            turn_age_s=self.last_turn_age_s,
            stuck_after_s=self._settings.processing.stuck_after_s,
            is_member=self.membership.is_member,
            is_waiting=not owned and self.membership.has_just_joined,
            has_topics=bool(self.subscription.names),
            is_connected=statistics.connections > 0 or not statistics.has_come,
            preparing=sum(not partition.phase.is_settled for partition in owned),
            refused=sum(partition.phase is Phase.REFUSED for partition in owned),
            held=sum(partition.is_held for partition in owned),
            waiting=sum(partition.is_waiting for partition in owned),
            is_backpressured=self.flow.is_backpressured,
            uncommitted_s=self.commits.uncommitted_s,
            uncommitted_after_s=UNCOMMITTED_AFTER_S,
        )

    @property
    def last_turn_age_s(self) -> float:
        """Seconds since the last turn of the loop."""
        return self._system.monotonic() - self._last_turn_s

    @property
    def ledger_remaining(self) -> int:
        """Offsets of the state topic that are still to be read."""
        return self._ledger_reader.remaining

    @property
    def has_open_calls(self) -> bool:
        """Whether a thread is still in a call of the Kafka client; it can't be ended."""
        parts = (self.commits, self.preparation, self.subscription, self.holds)
        return any(part.has_open_call for part in parts)

    def stop(self) -> None:
        """End the loop after the current turn; any thread or signal handler may call it."""
        # Acquires no lock: a signal may come while the same thread holds it.
        self._is_stopping = True

    def reload_model(self) -> None:
        """Load the model's file before the next poll, even if it seems unchanged."""
        self._model_file.ask()

    def run(self) -> None:
        """Turn until `stop`; then commit all results and leave the group.

        Raises
        ------
        StreamError
            Kafka refused something and another attempt can't help; messages whose results aren't
            committed will be read again.
        """
        self._connect()
        assignment = self.assignment
        self.subscription.begin(
            on_assign=self._guard(lambda _, partitions: assignment.assign(partitions)),
            on_revoke=self._guard(lambda _, partitions: assignment.revoke(partitions)),
            on_lost=self._guard(lambda _, partitions: assignment.lose(partitions)),
        )
        self.has_joined = True
        self._last_turn_s = self._system.monotonic()
        check_s = self._settings.processing.stuck_after_s / 4
        stop_s = self._settings.processing.shutdown_timeout_s
        try:
            with self._system.watchdog(lambda: self.health.is_live, check_s):
                while not self._is_stopping:
                    self.turn()
                leave_s = self._system.monotonic() + stop_s
                self.commits.commit_last(stop_s, self._poll_before_the_end)
                self.assignment.close()
                self.membership.leave(leave_s - self._system.monotonic(), self._poll_first)
        finally:
            self.close()

    def _connect(self) -> None:
        with explain_kafka_errors(f"can't start at {self._settings.kafka.bootstrap_servers}"):
            lacking = self._cluster.check_access()
            if lacking:
                raise StreamError(f"{'; '.join(lacking)} (docs/security.md lists all rights)")
            problems = self._cluster.check_topics()
            if problems:
                raise StreamError(f"{'; '.join(problems)}; create topics with: stepstream topics")
            self._committer.open(COMMIT_TIMEOUT_S)
            self._ledger_reader.connect(COMMIT_TIMEOUT_S)

    def turn(self) -> None:
        """One pass through the loop.

        1. If the model's file has changed, restart all partitions with the new model.
        2. Poll. The group's callbacks run inside: partitions are assigned, revoked or lost.
        3. Handle the errors that the client returns among the messages.
        4. Join again at once if another rebalance follows the last one, see `Membership`.
        5. Take up topics that are new and let go of those that are gone, see `Subscription`.
        6. Continue to prepare assigned partitions, see `Preparation`.
        7. Process the messages, see `Processor`; their results go into the outbox. Messages whose
           schema has to be fetched first are left out, see `SchemaWaits`.
        8. Hold partitions with too many dead letters, and show the results to observers.
        9. Let partitions go on whose schemas were fetched or that a person released, see `Holds`,
           and end those that have reached the end of their range, see `RangeEnds`.
        10. Pause all partitions while the outbox is full, and resume them when it isn't.
        11. Commit in a second thread, if it is time, see `Commits`.
        12. Make the calls that other threads wait for.
        """
        self._last_turn_s = self._system.monotonic()
        self._replace_model()
        messages, errors = split_errors(self.poll())
        for message, error in errors:
            self.assignment.handle_error(message, error)
        self.membership.turn()
        if self.membership.has_been_replaced():
            self.assignment.disown()
            self.subscription.renew()
        if self.commits.uncommitted_s > STALLED_S:
            # Kafka refuses a commit with offsets of a topic that was deleted.
            self.subscription.look_soon()
        self.assignment.apply(self.subscription.turn())
        self.preparation.turn(self.assignment.owned)
        self._process(messages)
        self.schema_waits.turn()
        self.holds.turn()
        owned = self.assignment.owned
        self.range_ends.turn(owned)
        self.flow.apply_backpressure(owned, self.commits.records, self.commits.size)
        self.commits.turn()
        self.calls.make_all()

    def close(self) -> None:
        """Leave the group without another commit; `run` does so by itself."""
        self.commits.close()
        self.preparation.close()
        self.subscription.close()
        self.schema_waits.close()
        self.holds.close()
        self.assignment.close()
        # The group's callbacks may still run in here, and they need the ledger reader.
        self._kafka.close()
        self._ledger_reader.close()

    def _replace_model(self) -> None:
        """Continue with a new model, if the model's file has changed.

        What the new model has to remember of each device comes from a replay, as after a restart.
        """
        model = self._model_file.look(self.model)
        if model is not None:
            released = self.assignment.release(self.assignment.owned)
            self.processor.replace_model(model)
            self.model = model
            self.assignment.add(released)

    def poll(self) -> list[Message]:
        """The messages that have arrived, with errors among them."""
        processing = self._settings.processing
        most = processing.poll_max_messages
        longest_s = PREPARING_WAIT_S if self.assignment.is_preparing else MAX_WAIT_S
        first = self._poll_first(self.commits.wait_s(longest_s))
        if first is None:
            self._is_behind = False
            return []
        if processing.linger_ms and most > 1 and not self._is_behind:
            self._system.sleep(processing.linger_ms / 1000)
        with explain_kafka_errors(GIVES_UP):
            messages = [first, *self._kafka.consume(most - 1, 0)]
        self._raise_callback_error()
        self._is_behind = len(messages) == most
        return messages

    def _poll_first(self, timeout_s: float) -> Message | None:
        with explain_kafka_errors(GIVES_UP):
            message = self._kafka.poll(timeout_s)
        self._raise_callback_error()
        return message

    def _poll_before_the_end(self, timeout_s: float) -> None:
        self._poll_first(timeout_s)
        if self.membership.has_been_replaced():
            self.assignment.disown()

    def _process(self, messages: list[Message]) -> None:
        grouped = group_by_partition(messages, one_topic=self.subscription.has_one_topic)
        consumed = {
            partition: its_messages
            for name, its_messages in grouped.items()
            if (partition := self.assignment.get(*name)) and partition.takes_messages
        }
        polled: dict[Partition, Any] = self.schema_waits.split(self.range_ends.cut(consumed))
        if not polled:
            return
        results = self.processor.process(polled, self._system.now_us())
        self.preparation.end_replays(polled)
        self.commits.add(one for one in results if one.partition.phase is Phase.RUNNING)
        self.flow.hold(one.partition for one in results if one.dead_letters)
        for watcher in self.watchers:
            watcher(results)

    def _note_error(self, error: KafkaError) -> None:
        """Note errors after which the client can't continue; the client logs the others itself."""
        if error.fatal():
            self._fatal_error = error.str()
            logger.error("fatal error of the Kafka client: %s", error.str())

    def _note_statistics(self, text: str) -> None:
        self.statistics["consumer"].update(text)
        self.ends.note(self.statistics["consumer"])
        self.membership.note_statistics()

    def _guard(self, callback: Callable[..., None]) -> Callable[..., None]:
        """The callback, made safe for the client.

        An exception that leaves a callback would destroy messages that the poll has consumed. It
        is raised after the poll.
        """

        def guarded(*arguments: Any) -> None:
            try:
                callback(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again after the poll
                self._callback_error = error

        return guarded

    def _raise_callback_error(self) -> None:
        if self._callback_error is not None:
            error, self._callback_error = self._callback_error, None
            raise error
