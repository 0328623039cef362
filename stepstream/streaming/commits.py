"""Publishing sealed results and committing their offsets, under either guarantee."""

from __future__ import annotations

import logging
import math
import time
from threading import Event as Flag
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_denied, explain_kafka_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stepstream.settings import TopicSettings
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.outbox import Sealed

    OnDelivery = Callable[[KafkaError | None, object], None]
    ProducerRecord = tuple[str, dict[str, Any]]

__all__ = ["Aborted", "AtLeastOnce", "Committer", "ExactlyOnce"]

logger = logging.getLogger(__name__)

RETRY_S = 0.02
CALL_S = 5.0
HANGING_S = 30.0
"""librdkafka ends all calls that `CALL_S` is given to by then, if it ever does."""
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001 - their public names


class Aborted(Exception):  # noqa: N818 - an outcome: the results go back into the outbox
    """Not everything was committed; what is left may be tried again.

    Parameters
    ----------
    reason
        Why, in words.
    left
        What was not committed.
    """

    def __init__(self, reason: str, left: Sequence[Sealed]) -> None:
        super().__init__(reason)
        self.left = left


class Committer(Protocol):
    """Publishes sealed results together with their offsets."""

    def open(self, timeout_s: float) -> None:
        """Get ready; to be called once."""

    def commit(self, taken: Sequence[Sealed], group: Any, deadline_s: float) -> None:
        """Publish all that was taken and commit its offsets.

        Parameters
        ----------
        taken
            Sealed results, each partition once.
        group
            The consumer's group metadata, read when the partitions' ownership was checked.
        deadline_s
            `time.monotonic` time after which a retry that makes no progress is given up.

        Raises
        ------
        Aborted
            Kafka refused for now: the caller checks ownership and tries again.
        StreamError
            It can't be tried again.
        """

    def complete(self, taken: Sequence[Sealed]) -> None:
        """Do what only the loop's thread may do once `commit` has succeeded; raises the same.

        Called for a new partition's first offset as well, before anything of it is published.
        """

    def close(self) -> None:
        """Give up what is being retried, from another thread."""

    @property
    def is_hanging(self) -> bool:
        """Whether a call of the Kafka client is far past the time it was given."""


class ExactlyOnce:
    """One transaction for events, dead letters, ledger records and offsets.

    Parameters
    ----------
    make_producer
        Makes a transactional producer; again after an error that ends one.
    cluster
        Says what was committed when an outcome is in doubt.
    topics
        Where to write.
    transactional_id
        The producer's, for messages.
    """

    def __init__(
        self,
        make_producer: Callable[[], Producer],
        cluster: Cluster,
        topics: TopicSettings,
        transactional_id: str,
    ) -> None:
        self._make_producer = make_producer
        self._producer = make_producer()
        self._cluster = cluster
        self._topics = topics
        self._transactional_id = transactional_id
        self._fenced = 0
        self._closing = Flag()
        self._call_begin_s = math.inf

    def open(self, timeout_s: float) -> None:
        """Register the transactional id, which ends what an earlier owner left open."""
        self._register(time.monotonic() + timeout_s)

    def commit(self, taken: Sequence[Sealed], group: Any, deadline_s: float) -> None:
        """See `Committer.commit`."""
        try:
            self._transact(taken, group, deadline_s)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            denied = explain_denied(cause, self._needed(taken))
            if cause.fatal() or not (denied or cause.txn_requires_abort()):
                self._settle(taken, cause)
            else:
                self._abort(taken, denied or Aborted(cause.str(), taken), deadline_s)
        except BufferError as error:
            self._abort(taken, Aborted(str(error), taken), deadline_s)
        self._fenced = 0

    def complete(self, taken: Sequence[Sealed]) -> None:
        """Nothing is left to do."""

    def close(self) -> None:
        """Give up what is being retried."""
        self._closing.set()

    @property
    def is_hanging(self) -> bool:
        """See `Committer.is_hanging`."""
        return time.monotonic() - self._call_begin_s > HANGING_S

    def _transact(self, taken: Sequence[Sealed], group: Any, deadline_s: float) -> None:
        producer, offsets = self._producer, _offsets(taken)
        producer.begin_transaction()
        _produce(producer, _results(taken, self._topics), deadline_s)
        _produce(producer, _ledger_records(taken, self._topics), deadline_s)
        self._retry(
            lambda left_s: producer.send_offsets_to_transaction(offsets, group, left_s), deadline_s
        )
        # Once this was asked for, only its own answer says what became of it.
        self._retry(producer.commit_transaction, None)

    def _needed(self, taken: Sequence[Sealed]) -> dict[str, str]:
        read = f"READ on {', '.join(sorted({sealed.partition.topic for sealed in taken}))}"
        return {
            "topic": f"{_needed_to_write(self._topics)}, {read}",
            "group": "READ",
            "transactional id": f"WRITE on {self._transactional_id}",
        }

    def _register(self, deadline_s: float | None) -> None:
        try:
            self._retry(self._producer.init_transactions, deadline_s)
        except KafkaException as error:
            denied = explain_denied(error.args[0], self._needed([]))
            if denied is not None:
                raise denied from None
            raise

    def _abort(self, taken: Sequence[Sealed], outcome: Exception, deadline_s: float) -> None:
        try:
            self._retry(self._producer.abort_transaction, deadline_s)
        except KafkaException as error:
            # What this finds committed must not be sent again.
            self._settle(taken, error.args[0])
        else:
            raise outcome

    def _settle(self, taken: Sequence[Sealed], cause: KafkaError) -> None:
        """Find out, after a fatal error, what was committed; raise `Aborted` with the rest.

        Raises
        ------
        StreamError
            The transactional id was taken over twice without a commit between, or no new
            producer can be had.
        """
        if cause.code() in FENCED:
            self._fenced += 1
            if self._fenced > 1:
                raise StreamError(
                    f"another process took over the transactional id {self._transactional_id}; "
                    "each consumer needs its own (kafka.transactional_id)"
                ) from None
        logger.warning("the outcome of a commit is in doubt: %s", cause.str())
        self._producer.purge()
        with explain_kafka_errors("transactions can't go on"):
            self._producer = self._make_producer()
            self._register(None)
        left = {(sealed.partition.topic, sealed.partition.number): sealed for sealed in taken}
        while self._drop_committed(left):
            if self._closing.wait(RETRY_S):
                break
        if left:
            raise Aborted(cause.str(), list(left.values())) from None

    def _drop_committed(self, left: dict[tuple[str, int], Sealed]) -> bool:
        """Take away what turns out to be committed; whether some are still in doubt."""
        try:
            committed = self._cluster.committed_offsets(left)
        except KafkaException as error:
            logger.warning("committed offsets can't be read: %s", error.args[0].str())
            return True
        unstable = left.keys() - committed.keys()
        for name, position in committed.items():
            if position.offset >= left[name].next_offset:
                del left[name]
        return bool(unstable)

    def _retry(self, call: Callable[[float], object], deadline_s: float | None) -> None:
        """Repeat a call that Kafka says can be repeated; it goes on where it was."""
        while True:
            left_s = CALL_S if deadline_s is None else deadline_s - time.monotonic()
            try:
                self._call(call, min(CALL_S, max(0.1, left_s)))
            except KafkaException as error:
                late = deadline_s is not None and time.monotonic() >= deadline_s
                if not error.args[0].retriable() or late:
                    raise
                if self._closing.wait(RETRY_S):
                    raise Aborted("closing", []) from None
            else:
                return

    def _call(self, call: Callable[[float], object], timeout_s: float) -> None:
        self._call_begin_s = time.monotonic()
        try:
            call(timeout_s)
        finally:
            self._call_begin_s = math.inf


class AtLeastOnce:
    """Events and dead letters, then the ledger, then the offsets.

    After a failure some events and dead letters come twice, under the same ``event_id``.
    """

    def __init__(self, producer: Producer, consumer: Consumer, topics: TopicSettings) -> None:
        self._producer = producer
        self._consumer = consumer
        self._topics = topics

    def open(self, timeout_s: float) -> None:
        """Nothing is to be prepared."""

    def commit(self, taken: Sequence[Sealed], group: Any, deadline_s: float) -> None:  # noqa: ARG002 - the consumer knows its group
        """See `Committer.commit`."""
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                failures.append(error)

        # The ledger must not know of a step that may not be published, nor the offsets.
        for records in (_results(taken, self._topics), _ledger_records(taken, self._topics)):
            try:
                _produce(self._producer, records, deadline_s, delivered)
            except BufferError as error:
                raise Aborted(str(error), taken) from None
            except KafkaException as error:
                failures.append(error.args[0])
            left = self._producer.flush(max(0.1, deadline_s - time.monotonic()))
            if failures or left:
                raise self._failed(failures, left, taken)
        for sealed in taken:
            # They are published; only the offsets are left to be tried again.
            sealed.events, sealed.dead_letters, sealed.state = [], [], {}

    def _failed(self, failures: list[KafkaError], left: int, taken: Sequence[Sealed]) -> Exception:
        needed = {"topic": _needed_to_write(self._topics)}
        denied = [error for error in (explain_denied(f, needed) for f in failures) if error]
        if denied:
            return denied[0]
        reason = failures[0].str() if failures else f"{left} records not acknowledged"
        return Aborted(reason, taken)

    def complete(self, taken: Sequence[Sealed]) -> None:
        """Commit the offsets: a call from another thread can wait for ever behind a poll."""
        if not taken:
            return
        try:
            self._consumer.commit(offsets=_offsets(taken), asynchronous=False)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            topics = sorted({sealed.partition.topic for sealed in taken})
            needed = {"topic": f"READ on {', '.join(topics)}", "group": "READ"}
            denied = explain_denied(cause, needed)
            if denied is not None:
                raise denied from None
            if cause.fatal():
                raise StreamError(f"commit failed: {cause.str()}") from None
            raise Aborted(cause.str(), taken) from None

    def close(self) -> None:
        """Nothing is retried."""

    @property
    def is_hanging(self) -> bool:
        """All calls keep their time."""
        return False


def _needed_to_write(topics: TopicSettings) -> str:
    return f"WRITE on {', '.join(topics.written)}"


def _offsets(taken: Sequence[Sealed]) -> list[TopicPartition]:
    return [
        TopicPartition(
            sealed.partition.topic,
            sealed.partition.number,
            sealed.next_offset,
            sealed.metadata,
        )
        for sealed in taken
    ]


def _results(taken: Iterable[Sealed], topics: TopicSettings) -> Iterator[ProducerRecord]:
    for sealed in taken:
        for key, value in sealed.events:
            yield topics.events, {"key": key, "value": value}
        for letter in sealed.dead_letters:
            headers = list(letter.headers)
            yield letter.topic, {"key": letter.key, "value": letter.value, "headers": headers}


def _ledger_records(taken: Iterable[Sealed], topics: TopicSettings) -> Iterator[ProducerRecord]:
    for sealed in taken:
        for key, value in sealed.state.items():
            yield topics.state, {"key": key, "value": value, "partition": sealed.partition.number}


def _produce(
    producer: Producer,
    records: Iterable[ProducerRecord],
    deadline_s: float,
    on_delivery: OnDelivery | None = None,
) -> None:
    """Hand records over, waiting for room in the client's queue until the deadline."""
    for topic, record in records:
        while True:
            try:
                producer.produce(topic, on_delivery=on_delivery, **record)
            except BufferError:
                if time.monotonic() >= deadline_s:
                    raise
                producer.poll(RETRY_S)
            else:
                break
    producer.poll(0)
