"""Lag as a scraper sees it, if transaction markers have offsets without messages."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from stepstream.streaming.partitions import UNHEARD_MS
from tests.builders import encode, reading
from tests.conftest import missing
from tests.kafka.broker import Broker, free_port, missing_tool
from tests.kafka.builders import DEADLINE_S, RunProcess, TopicSet, fetch, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def values(port: int, name: str) -> dict[str, float]:
    """A metric of each partition; empty before the consumer answers."""
    try:
        status, text = fetch(port, "/metrics")
    except OSError:
        return {}
    assert status == 200
    return {
        sample.labels["partition"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def test_all_that_can_be_read_was_read_where_a_partition_ends_with_markers(
    topics: TopicSet, tmp_path: Path
) -> None:
    producer = Producer({"bootstrap.servers": topics.bootstrap, "transactional.id": topics.group})
    producer.init_transactions(DEADLINE_S)

    def send(number: int) -> None:
        producer.begin_transaction()
        for partition in range(topics.partitions):
            producer.produce(topics.readings, encode(reading()), b"a-%d" % number, partition)
        producer.flush(DEADLINE_S)

    for number in range(3):
        send(number)
        producer.commit_transaction(DEADLINE_S)
    send(3)
    producer.abort_transaction(DEADLINE_S)
    port = free_port()
    with RunProcess(topics, tmp_path, STEPSTREAM_HTTP__PORT=str(port)) as run:
        everywhere = {str(number): 0.0 for number in range(topics.partitions)}
        for name in ("stepstream_lag_messages", "stepstream_lag_seconds"):
            wait_until(f"{name} of 0", lambda name=name: values(port, name) == everywhere)  # type: ignore[misc]
        ends, committed = topics.end_offsets(topics.readings), topics.committed()
        assert all(ends[number] > committed[number] for number in ends), (ends, committed)
        # What isn't committed yet can't be read, and so nobody is behind on it.
        send(4)
        assert topics.end_offsets(topics.readings) == ends
        assert values(port, "stepstream_lag_messages") == everywhere
        producer.commit_transaction(DEADLINE_S)
        last = {number: end + 1 for number, end in ends.items()}
        wait_until("the last ones", lambda: topics.committed() == last)
        wait_until("lag of 0", lambda: values(port, "stepstream_lag_messages") == everywhere)
        assert run.terminate() == 0


def test_a_partition_whose_broker_says_nothing_is_behind_until_it_is_heard_again(
    tmp_path: Path,
) -> None:
    tool = missing_tool()
    if tool:
        missing(f"{tool}, to run an Apache Kafka broker of its own")
    broker = Broker(tmp_path / "broker")
    port = free_port()
    broker.start()
    try:
        topics = TopicSet.create(broker.bootstrap)
        settings = {
            "STEPSTREAM_HTTP__PORT": str(port),
            # Its coordinator is the same broker here, and it would lose its partitions.
            "STEPSTREAM_KAFKA__SESSION_TIMEOUT_MS": "60000",
        }
        with RunProcess(topics, tmp_path, **settings):
            everywhere = {str(number): 0.0 for number in range(topics.partitions)}

            def lags() -> dict[str, float]:
                return values(port, "stepstream_lag_seconds")

            wait_until("lag of 0", lambda: lags() == everywhere)
            os.kill(broker.pid, signal.SIGSTOP)
            wait_until("lag", lambda: min(lags().values(), default=0) > UNHEARD_MS / 1000)
            os.kill(broker.pid, signal.SIGCONT)
            wait_until("lag of 0", lambda: lags() == everywhere)
    finally:
        broker.kill()
