"""Publishing sealed results and committing their offsets, under either guarantee."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from stepstream.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.settings import TopicSettings
    from stepstream.streaming.outbox import Sealed

__all__ = ["Aborted", "AtLeastOnce", "Committer", "ExactlyOnce"]

RETRY_S = 0.02


class Aborted(Exception):  # noqa: N818 - an outcome: the results go back into the outbox
    """Nothing was committed, and everything may be tried again."""


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
        """Do what only the loop's thread may do once `commit` has succeeded; raises the same."""


class ExactlyOnce:
    """One transaction for events, dead letters and offsets."""

    def __init__(self, producer: Producer, topics: TopicSettings, transactional_id: str) -> None:
        self._producer = producer
        self._topics = topics
        self._transactional_id = transactional_id

    def open(self, timeout_s: float) -> None:
        """Register the transactional id, which ends what an earlier owner left open."""
        deadline_s = time.monotonic() + timeout_s
        self._retry(self._producer.init_transactions, deadline_s)

    def commit(self, taken: Sequence[Sealed], group: Any, deadline_s: float) -> None:
        """See `Committer.commit`."""
        producer = self._producer
        offsets = _offsets(taken)
        try:
            producer.begin_transaction()
            _produce(producer, self._topics, taken, deadline_s)
            self._retry(
                lambda left_s: producer.send_offsets_to_transaction(offsets, group, left_s),
                deadline_s,
            )
            self._retry(producer.commit_transaction, deadline_s)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.fatal() or not cause.txn_requires_abort():
                raise self._failed(cause) from None
            self._abort(deadline_s)
            raise Aborted(cause.str()) from None
        except BufferError as error:
            self._abort(deadline_s)
            raise Aborted(str(error)) from None

    def complete(self, taken: Sequence[Sealed]) -> None:
        """Nothing is left to do."""

    def _abort(self, deadline_s: float) -> None:
        try:
            self._retry(self._producer.abort_transaction, deadline_s)
        except KafkaException as error:
            raise self._failed(error.args[0]) from None

    def _retry(self, call: Callable[[float], object], deadline_s: float) -> None:
        """Repeat a call that Kafka says can be repeated; it goes on where it was."""
        while True:
            left_s = max(0.1, deadline_s - time.monotonic())
            try:
                call(left_s)
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() >= deadline_s:
                    raise
                time.sleep(RETRY_S)
            else:
                return

    def _failed(self, cause: KafkaError) -> StreamError:
        if cause.code() in {KafkaError._FENCED, KafkaError.PRODUCER_FENCED}:  # noqa: SLF001
            return StreamError(
                f"another process took over the transactional id {self._transactional_id}; "
                "each consumer needs its own (kafka.transactional_id)"
            )
        return StreamError(f"transaction failed: {cause.str()}")


class AtLeastOnce:
    """Events and dead letters first, then the offsets: after a failure some come twice."""

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

        try:
            _produce(self._producer, self._topics, taken, deadline_s, delivered)
        except BufferError as error:
            raise Aborted(str(error)) from None
        left = self._producer.flush(max(0.1, deadline_s - time.monotonic()))
        if failures or left:
            raise Aborted(failures[0].str() if failures else f"{left} records not acknowledged")
        for sealed in taken:
            # They are published; only the offsets are left to be tried again.
            sealed.events, sealed.dead_letters = [], []

    def complete(self, taken: Sequence[Sealed]) -> None:
        """Commit the offsets: a call from another thread can wait for ever behind a poll."""
        try:
            self._consumer.commit(offsets=_offsets(taken), asynchronous=False)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            if cause.fatal():
                raise StreamError(f"commit failed: {cause.str()}") from None
            raise Aborted(cause.str()) from None


def _offsets(taken: Sequence[Sealed]) -> list[TopicPartition]:
    return [
        TopicPartition(sealed.partition.topic, sealed.partition.number, sealed.next_offset)
        for sealed in taken
    ]


def _produce(
    producer: Producer,
    topics: TopicSettings,
    taken: Sequence[Sealed],
    deadline_s: float,
    on_delivery: Callable[[KafkaError | None, object], None] | None = None,
) -> None:
    def produce(topic: str, **record: Any) -> None:
        while True:
            try:
                producer.produce(topic, on_delivery=on_delivery, **record)
            except BufferError:
                if time.monotonic() >= deadline_s:
                    raise
                producer.poll(RETRY_S)
            else:
                return

    for sealed in taken:
        for key, value in sealed.events:
            produce(topics.events, key=key, value=value)
        for letter in sealed.dead_letters:
            produce(topics.dead_letters, key=letter.key, value=letter.value, headers=letter.headers)
    producer.poll(0)
