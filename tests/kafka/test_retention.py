"""For how long unread readings are safe, on real brokers and as a scraper sees it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from stepstream.streaming.cluster import Cluster
from stepstream.streaming.retention import Limits
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.test_lag import values
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

DAY_S = 86_400
STREAK = 5


def limit(topics: TopicSet, expected: Limits, **properties: int) -> Cluster:
    """Set the retention of the readings, and wait until brokers say so, which takes a moment."""
    for name, value in properties.items():
        topics.configure(topics.readings, f"retention.{name}", str(value))
    cluster = Cluster(topics.settings())
    wait_until(
        "the limits",
        lambda: cluster.retention_limits([topics.readings]) == {topics.readings: expected},
    )
    return cluster


def test_limits_and_first_messages_are_those_of_the_topic(topics: TopicSet) -> None:
    limit(topics, Limits(math.inf, has_size=False), ms=-1)
    expected = Limits(DAY_S * 1000, has_size=True)
    cluster = limit(topics, expected, ms=DAY_S * 1000, bytes=5_000_000)
    assert cluster.retention_limits([]) == {}

    topics.produce(walk(8, 2.0, batch=20))
    ends = topics.end_offsets(topics.readings)
    (partition, end), *others = [(p, end) for p, end in ends.items() if end]
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    last = TopicPartition(topics.readings, partition, end - 1)
    for future in admin.delete_records([last]).values():
        future.result()
    found = cluster.first_messages([(topics.readings, p) for p in ends])
    left = {(m.partition(), m.offset()): m.timestamp()[1] for m in topics.read(topics.readings)}
    first = {(topics.readings, p): (0, left[p, 0]) for p, _ in others}
    first[topics.readings, partition] = (end - 1, left[partition, end - 1])
    assert found == first
    assert cluster.first_messages([]) == {}


def test_the_headroom_shrinks_as_the_lag_grows(topics: TopicSet, tmp_path: Path) -> None:
    limit(topics, Limits(DAY_S * 1000, has_size=False), ms=DAY_S * 1000)
    port = free_port()
    settings = {
        "STEPSTREAM_HTTP__PORT": str(port),
        "STEPSTREAM_PROCESSING__DEAD_LETTER_STREAK": str(STREAK),
    }

    def headrooms() -> dict[str, float]:
        return values(port, "stepstream_retention_headroom_seconds")

    with RunProcess(topics, tmp_path, **settings) as run:
        all_of_it = {str(number): float(DAY_S) for number in range(topics.partitions)}
        wait_until("nothing unread", lambda: headrooms() == all_of_it)
        # A partition of which nothing is read any more.
        topics.produce([(b"broken", b"no reading")] * STREAK)
        run.wait_for_log("partition held")
        topics.produce([(b"broken", b"no reading")] * STREAK)
        (held,) = (p for p, end in topics.end_offsets(topics.readings).items() if end)
        wait_until("a lag", lambda: values(port, "stepstream_lag_seconds")[str(held)] > 1)
        lag_s = values(port, "stepstream_lag_seconds")[str(held)]
        headroom_s = headrooms()[str(held)]
        assert headroom_s < DAY_S - 1
        assert headroom_s + lag_s == pytest.approx(DAY_S, abs=5)
        assert all(s == DAY_S for p, s in headrooms().items() if p != str(held))
        assert run.terminate() == 0
