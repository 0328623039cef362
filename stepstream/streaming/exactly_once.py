"""The guarantee `exactly_once`: records and offsets in one transaction."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer

from stepstream.errors import StreamError
from stepstream.streaming.clients import (
    explain_denied,
    explain_kafka_errors,
    unwrapped_kafka_errors,
)
from stepstream.streaming.committer import (
    COMMITTED,
    RETRY_S,
    Outcome,
    first_records,
    latest_records,
    offsets_of,
    produce,
    rights_to_read,
    rights_to_write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.system import System

__all__ = ["ExactlyOnce"]

logger = logging.getLogger(__name__)

CALL_S = 5.0
HANGING_S = 30.0
"""If a call with the timeout `CALL_S` lasts this long, librdkafka never ends it."""
FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001 - their public names


class _Closing(Exception):  # noqa: N818 - no error: the process ends
    """Nothing is tried again, because the process ends."""


class ExactlyOnce:
    """Publishes events, dead letters, ledger records and offsets in one transaction.

    Parameters
    ----------
    make_producer
        Makes a transactional producer; called again after an error that ends one.
    cluster
        Says what was committed when an outcome is in doubt.
    settings
        All settings.
    system
        The clock.
    """

    def __init__(
        self,
        make_producer: Callable[[], Producer],
        cluster: Cluster,
        settings: Settings,
        system: System,
    ) -> None:
        self._make_producer = make_producer
        self._producer = make_producer()
        self._cluster = cluster
        self._topics = settings.topics
        self._transactional_id = settings.kafka.effective_transactional_id()
        self._timeout_s = settings.kafka.transaction_timeout_ms / 1000
        self._system = system
        self._times_fenced = 0
        self._closing = system.event()
        self._transaction_begin_s = 0.0
        self._call_begin_s = math.inf

    def open(self, timeout_s: float) -> None:
        """Register the transactional id; this ends an open transaction of an earlier owner."""
        self._register(self._system.monotonic() + timeout_s)

    def publish(self, results: Sequence[Results], group: Any, deadline_s: float) -> Outcome:
        """See `Committer.publish`; the offsets are part of the transaction."""
        try:
            outcome = self._publish(results, group, deadline_s)
        except _Closing:
            return Outcome(results, "the process ends")
        if outcome is COMMITTED:
            self._times_fenced = 0
        return outcome

    def commit_offsets(self, results: Sequence[Results]) -> Outcome:  # noqa: ARG002 - they are committed
        """The offsets were committed with the records."""
        return COMMITTED

    def close(self) -> None:
        """End all repeated attempts."""
        self._closing.set()

    @property
    def is_hanging(self) -> bool:
        """See `Committer.is_hanging`."""
        return self._system.monotonic() - self._call_begin_s > HANGING_S

    def _publish(self, results: Sequence[Results], group: Any, deadline_s: float) -> Outcome:
        try:
            self._transact(results, group, deadline_s)
        except KafkaException as error:
            cause: KafkaError = error.args[0]
            denied = explain_denied(cause, self._rights(results))
            if cause.fatal() or (denied is None and not cause.txn_requires_abort()):
                return self._settle(results, cause)
            outcome = self._abort(results, cause.str(), deadline_s)
            if denied is not None:
                raise denied from None
            return outcome
        except BufferError as error:
            return self._abort(results, str(error), deadline_s)
        return COMMITTED

    def _transact(self, results: Sequence[Results], group: Any, deadline_s: float) -> None:
        producer, offsets = self._producer, offsets_of(results)
        self._transaction_begin_s = self._system.monotonic()
        producer.begin_transaction()
        with unwrapped_kafka_errors():
            produce(producer, first_records(results), deadline_s, self._system)
            produce(producer, latest_records(results), deadline_s, self._system)
        # librdkafka numbers records when it queues them. If offsets are refused while records
        # still wait (during a rebalance), these records are purged. The gap in the numbers then
        # aborts the next transaction too.
        self._retry(producer.flush, deadline_s)
        self._retry(
            lambda left_s: producer.send_offsets_to_transaction(offsets, group, left_s), deadline_s
        )
        # After this call, only its own answer says whether the transaction is committed.
        self._retry(producer.commit_transaction, None)

    def _rights(self, results: Sequence[Results]) -> dict[str, str]:
        return {
            "topic": f"{rights_to_write(self._topics)}, {rights_to_read(results)}",
            "group": "READ",
            "transactional id": f"WRITE on {self._transactional_id}",
        }

    def _register(self, deadline_s: float | None) -> None:
        try:
            self._retry(self._producer.init_transactions, deadline_s)
        except KafkaException as error:
            denied = explain_denied(error.args[0], self._rights([]))
            if denied is not None:
                raise denied from None
            raise

    def _abort(self, results: Sequence[Results], reason: str, deadline_s: float) -> Outcome:
        try:
            self._retry(self._producer.abort_transaction, deadline_s)
        except KafkaException as error:
            # Results that are committed after all must not be published again.
            return self._settle(results, error.args[0])
        return Outcome(results, reason)

    def _settle(self, results: Sequence[Results], cause: KafkaError) -> Outcome:
        """Find out, after a fatal error, what was committed; the rest is left.

        Raises
        ------
        StreamError
            Another process used the transactional id twice without a commit in between, or a new
            producer can't be made.
        """
        self._check_fenced(cause)
        logger.warning(
            "the outcome of a commit is unknown, the committed offsets are checked: %s", cause.str()
        )
        self._producer.purge()
        with explain_kafka_errors("transactions can't continue"):
            self._producer = self._make_producer()
            self._register(None)
        left = {(one.partition.topic, one.partition.number): one for one in results}
        while self._drop_committed(left):
            if self._closing.wait(RETRY_S):
                break
        return Outcome(list(left.values()), cause.str()) if left else COMMITTED

    def _check_fenced(self, cause: KafkaError) -> None:
        """Distinguish an id that two processes share from a transaction that is too slow."""
        if cause.code() not in FENCED:
            return
        took_s = self._system.monotonic() - self._transaction_begin_s
        if took_s >= self._timeout_s:
            # The broker ends such a transaction with the error that another owner of the id causes.
            logger.warning(
                "a transaction was too slow and the broker ended it "
                "(kafka.transaction_timeout_ms is %d)",
                self._timeout_s * 1000,
                extra={"seconds": round(took_s, 1)},
            )
            return
        self._times_fenced += 1
        if self._times_fenced > 1:
            raise StreamError(
                f"another process uses the transactional id {self._transactional_id}; "
                "each consumer needs its own (kafka.transactional_id)"
            ) from None

    def _drop_committed(self, left: dict[tuple[str, int], Results]) -> bool:
        """Drop results that are committed; whether the outcome of some is still unknown."""
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
        """Repeat a call as long as Kafka says that it can; the call continues where it was."""
        while True:
            now_s = self._system.monotonic()
            left_s = CALL_S if deadline_s is None else deadline_s - now_s
            try:
                self._call(call, min(CALL_S, max(0.1, left_s)))
            except KafkaException as error:
                late = deadline_s is not None and self._system.monotonic() >= deadline_s
                if not error.args[0].retriable() or late:
                    raise
                if self._closing.wait(RETRY_S):
                    raise _Closing from None
            else:
                return

    def _call(self, call: Callable[[float], object], timeout_s: float) -> None:
        self._call_begin_s = self._system.monotonic()
        try:
            with unwrapped_kafka_errors():
                call(timeout_s)
        finally:
            self._call_begin_s = math.inf
