"""Transactions that end badly, on a producer whose every answer a test sets."""

from __future__ import annotations

from typing import Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from stepstream.errors import StreamError
from stepstream.settings import KafkaSettings, Settings
from stepstream.streaming.cluster import Committed
from stepstream.streaming.committer import COMMITTED
from stepstream.streaming.exactly_once import ExactlyOnce
from tests.streaming.records import Clock
from tests.streaming.test_outbox import partition, results

SETTINGS = Settings(kafka=KafkaSettings(transactional_id="steps-0", transaction_timeout_ms=10_000))


class Producer:
    """Raises what a test says when a transaction is to be committed."""

    failures: list[KafkaError]

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.took_s = 0.0
        self.failures = []
        self.flush_failure: KafkaException | None = None

    def init_transactions(self, _timeout_s: float) -> None: ...
    def begin_transaction(self) -> None: ...
    def produce(self, *_: object, **__: object) -> None: ...
    def poll(self, _timeout_s: float) -> None: ...
    def purge(self) -> None: ...
    def send_offsets_to_transaction(self, *_: object) -> None: ...

    def flush(self, _timeout_s: float) -> int:
        if self.flush_failure is not None:
            failure, self.flush_failure = self.flush_failure, None
            raise SystemError("returned a result with an exception set") from failure
        return 0

    def commit_transaction(self, _timeout_s: float) -> None:
        self._clock.now_s += self.took_s
        if self.failures:
            raise KafkaException(self.failures.pop(0))


class Cluster:
    """Says that nothing was committed."""

    def committed_offsets(self, names: Any) -> dict[Any, Committed]:
        return dict.fromkeys(names, Committed(-1, ""))


def fenced() -> KafkaError:
    return KafkaError(KafkaError.INVALID_PRODUCER_EPOCH, "fenced", fatal=True)


def committer() -> tuple[ExactlyOnce, Producer]:
    clock = Clock()
    producer = Producer(clock)
    made = ExactlyOnce(lambda: cast("Any", producer), cast("Any", Cluster()), SETTINGS, clock)
    return made, producer


def test_an_id_that_is_taken_over_twice_without_a_commit_between_ends_the_process() -> None:
    made, producer = committer()
    given = [results(partition(), 5, b"a")]
    producer.failures = [fenced()]
    assert made.publish(given, "group", 1e9).left == given
    producer.failures = [fenced()]
    with pytest.raises(StreamError, match=r"another process uses .* steps-0"):
        made.publish(given, "group", 1e9)


def test_a_commit_between_two_take_overs_shows_that_the_id_is_not_shared() -> None:
    made, producer = committer()
    given = [results(partition(), 5, b"a")]
    for _ in range(3):
        producer.failures = [fenced()]
        assert made.publish(given, "group", 1e9).left == given
        assert made.publish(given, "group", 1e9) is COMMITTED


def test_transactions_that_take_too_long_are_not_blamed_on_another_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, producer = committer()
    given = [results(partition(), 5, b"a")]
    producer.took_s = 10.5
    for _ in range(3):
        producer.failures = [fenced()]
        assert made.publish(given, "group", 1e9).left == given
    assert "kafka.transaction_timeout_ms is 10000" in caplog.text
    producer.took_s = 0.1
    assert made.publish(given, "group", 1e9) is COMMITTED


def test_a_fatal_error_that_comes_while_the_client_logs_is_settled_as_any_other() -> None:
    made, producer = committer()
    given = [results(partition(), 5, b"a")]
    producer.flush_failure = KafkaException(fenced())
    assert made.publish(given, "group", 1e9).left == given
    assert made.publish(given, "group", 1e9) is COMMITTED
