"""The guarantee `at_least_once`: no transactions; records may be published twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_denied
from stepstream.streaming.committer import (
    COMMITTED,
    Outcome,
    first_records,
    latest_records,
    offsets_of,
    produce,
    rights_to_read,
    rights_to_write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.settings import TopicSettings
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.system import System

__all__ = ["AtLeastOnce"]


class AtLeastOnce:
    """Publishes events and dead letters, then the ledger, and commits the offsets last.

    After a failure some events and dead letters come twice, under the same ``event_id``.

    Parameters
    ----------
    producer
        A producer without transactions.
    consumer
        The consumer of readings, which commits the offsets.
    topics
        The topics, for messages.
    system
        The clock.
    """

    def __init__(
        self, producer: Producer, consumer: Consumer, topics: TopicSettings, system: System
    ) -> None:
        self._producer = producer
        self._consumer = consumer
        self._topics = topics
        self._system = system

    def open(self, timeout_s: float) -> None:
        """There is nothing to prepare."""

    def publish(self, results: Sequence[Results], group: Any, deadline_s: float) -> Outcome:  # noqa: ARG002 - the consumer knows its group
        """See `Committer.publish`."""
        failures: list[KafkaError] = []

        def note_delivery(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                failures.append(error)

        # Neither the ledger nor the offsets may contain a step that may not be published.
        for records in (first_records(results), latest_records(results)):
            try:
                produce(self._producer, records, deadline_s, self._system, note_delivery)
            except BufferError as error:
                return Outcome(results, str(error))
            except KafkaException as error:
                failures.append(error.args[0])
            left = self._producer.flush(max(0.1, deadline_s - self._system.monotonic()))
            if failures or left:
                return self._explain(failures, left, results)
        for one in results:
            # Everything is published: if the offsets can't be committed, only they are tried again.
            one.records, one.latest = [], {}
        return COMMITTED

    def _explain(
        self, failures: Sequence[KafkaError], left: int, results: Sequence[Results]
    ) -> Outcome:
        needed = {"topic": rights_to_write(self._topics)}
        for failure in failures:
            denied = explain_denied(failure, needed)
            if denied is not None:
                raise denied
        reason = failures[0].str() if failures else f"{left} records not acknowledged"
        return Outcome(results, reason)

    def commit_offsets(self, results: Sequence[Results]) -> Outcome:
        """See `Committer.commit_offsets`."""
        if not results:
            return COMMITTED
        try:
            # In the loop's thread: a call from another thread can wait forever behind a poll.
            self._consumer.commit(offsets=offsets_of(results), asynchronous=False)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            denied = explain_denied(cause, {"topic": rights_to_read(results), "group": "READ"})
            if denied is not None:
                raise denied from None
            if cause.fatal():
                raise StreamError(f"commit failed: {cause.str()}") from None
            return Outcome(results, cause.str())
        return COMMITTED

    def close(self) -> None:
        """Nothing is tried again here."""

    @property
    def is_hanging(self) -> bool:
        """No call lasts longer than its timeout."""
        return False
