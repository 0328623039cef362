from __future__ import annotations

import math
import re
import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stepstream.exposition import make_registry
from stepstream.inputs import ErrorCode
from stepstream.metrics import PROCESS_METRICS
from stepstream.metrics.consumer import METRICS
from stepstream.metrics.reference import render_reference
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.partitions import UNHEARD_MS
from stepstream.streaming.positions import Position, Start
from stepstream.streaming.retention import Limits
from stepstream.streaming.totals import MEASURED, Histogram, Times, Totals
from tests.conftest import ROOT, missing
from tests.web.builders import (
    TOPIC,
    Callbacks,
    consumer_without_broker,
    own,
    settings,
    turning,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric as Family

    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition

UNBOUNDED = {"topic", "partition", "model", "name", "version", "python"}
"""Labels whose values no list bounds: they have one value, or one an owned partition."""
STATISTICS = """{"brokers": {
    "a": {"nodeid": 1, "state": "UP", "rxidle": 900, "rxbytes": 5, "txbytes": 7,
          "rtt": {"p99": 2500}, "req_timeouts": 1},
    "b": {"state": "DOWN", "rxbytes": 50, "disconnects": 3, "throttle": {"avg": 40}}},
  "topics": {"sensor-readings": {"partitions": {"0": {"broker": 1, "ls_offset": 12}, "-1": {}}}}}"""


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    with consumer_without_broker() as made:
        yield made


def exported(consumer: Consumer) -> dict[str, Family]:
    text = generate_latest(make_registry(consumer, METRICS)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Family], name: str, **labels: str) -> float:
    samples = (sample for family in families.values() for sample in family.samples)
    (found,) = (s.value for s in samples if s.name == name and s.labels == labels)
    return found


def test_what_is_exported_is_what_the_list_names(consumer: Consumer) -> None:
    own(consumer, 0)
    consumer.retention.limits[TOPIC] = Limits(60_000, has_size=False)
    families = exported(consumer)
    expected = {metric.name.removesuffix("_total") for metric in METRICS}
    process = {name.removesuffix("_total") for name in PROCESS_METRICS}
    assert families.keys() == expected | process
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == {"info": "gauge"}.get(metric.kind, metric.kind), metric.name
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == (metric.labels or {}).keys(), metric.name
        # The labels are always the same, so that a rate exists from the start.
        assert family.samples, metric.name


def test_names_are_of_one_kind() -> None:
    for metric in METRICS:
        assert metric.name.startswith("stepstream_")
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert metric.name.endswith("_info") == (metric.kind == "info"), metric.name
        assert not re.search(r"_(ms|us|minutes|percent|kb|mb|mib)\b", metric.name)
        assert metric.text.endswith(".")
        assert not {"device", "device_id", "key"} & (metric.labels or {}).keys()


def test_counts_are_read_when_asked_for(consumer: Consumer) -> None:
    totals = consumer.totals
    totals.readings = 1234
    totals.dead_letters[ErrorCode.NULL_VALUE] = 5
    totals.rebalances["lost"] += 2
    totals.commit_s.add(0.004)
    totals.commit_s.add(0.3)
    consumer.processor.counters.gaps = 7
    consumer.processor.replace_model(consumer.model)
    families = exported(consumer)
    assert value(families, "stepstream_gaps_total") == 7
    assert value(families, "stepstream_readings_total") == 1234
    assert value(families, "stepstream_dead_letters_total", error="null-value") == 5
    assert value(families, "stepstream_dead_letters_total", error="device-limit") == 0
    assert value(families, "stepstream_rebalances_total", kind="lost") == 2
    assert value(families, "stepstream_commit_seconds_bucket", le="0.005") == 1
    assert value(families, "stepstream_commit_seconds_bucket", le="0.5") == 2
    assert value(families, "stepstream_commit_seconds_count") == 2
    assert value(families, "stepstream_commit_seconds_sum") == pytest.approx(0.304)


def test_a_turn_of_the_loop_is_measured_stage_by_stage(consumer: Consumer) -> None:
    own(consumer, 0)
    with turning(consumer, devices=2):
        while consumer.totals.inference_s.counts == [0] * len(consumer.totals.inference_s.counts):
            consumer.calls.submit(lambda: None).result(60)
    families = exported(consumer)
    stages = {
        stage: value(families, "stepstream_stage_seconds_total", stage=stage)
        for stage in ("decode", "windows", "model", "publish")
    }
    assert min(stages.values()) > 0
    assert sum(stages.values()) <= value(families, "stepstream_processing_seconds_total")
    assert stages["model"] == pytest.approx(value(families, "stepstream_inference_seconds_sum"))
    assert value(families, "stepstream_batch_messages_sum") == consumer.totals.messages
    assert value(families, "stepstream_devices") == 2
    assert value(families, "stepstream_gaps_total") == 0
    assert value(families, "stepstream_partitions", phase="running") == 1


def test_client_statistics_are_summed_over_brokers() -> None:
    made_with = settings()
    callbacks = Callbacks(made_with)
    with consumer_without_broker(made_with, connections=callbacks) as consumer:
        partition = own(consumer, 0)
        callbacks.on_statistics(STATISTICS)
        check_statistics(consumer, partition)


def check_statistics(consumer: Consumer, partition: Partition) -> None:
    families = exported(consumer)
    expected = {
        "connections": 1,
        "received_bytes_total": 55,
        "sent_bytes_total": 7,
        "disconnects_total": 3,
        "request_errors_total": 1,
        "round_trip_seconds": 0.0025,
        "throttle_seconds": 0.04,
    }
    for name, number in expected.items():
        assert value(families, f"stepstream_kafka_{name}", client="consumer") == number
    assert partition.lag_messages == 12
    assert value(families, "stepstream_lag_messages", topic=TOPIC, partition="0") == 12
    consumer.assignment.release([partition])
    assert not exported(consumer)["stepstream_lag_messages"].samples


def a_partition() -> Partition:
    with consumer_without_broker() as consumer:
        partition = consumer.processor.add_partition(TOPIC, 0)
    partition.restore_from(Position(TopicIdentity("id", 4), -1, "", 0, -1, 0))
    return partition


def test_lag_is_unknown_as_long_as_the_end_is() -> None:
    partition = a_partition()
    assert partition.lag_messages is None
    assert partition.lag_ms(5_000) is None


def test_lag_is_what_can_be_read_and_is_not_processed() -> None:
    partition = a_partition()
    partition.start_at(Start(10, None))
    partition.note_end(15, now_ms=5_000)
    assert (partition.lag_messages, partition.lag_ms(6_000)) == (5, None)
    partition.advance(14)
    partition.time.ms = 3_000
    assert partition.lag_ms(7_500) == 4_500


def test_a_partition_that_ends_with_transaction_markers_is_not_behind() -> None:
    partition = a_partition()
    partition.start_at(Start(0, None))
    partition.advance(14)
    partition.note_end(15, now_ms=5_000)
    assert (partition.lag_messages, partition.lag_ms(5_000)) == (1, None)
    partition.lag.reached_offset = 15
    assert (partition.lag_messages, partition.lag_ms(9_000_000)) == (0, 0)


def test_lag_time_begins_with_the_first_message_after_a_quiet_hour() -> None:
    partition = a_partition()
    partition.start_at(Start(0, None))
    partition.advance(10)
    partition.time.ms = 1_000
    partition.note_end(10, now_ms=3_600_000)
    partition.note_end(12, now_ms=3_600_900)
    assert partition.lag_ms(3_601_000) == 1_000


def test_lag_time_grows_while_nobody_says_where_the_partition_ends() -> None:
    partition = a_partition()
    partition.start_at(Start(0, None))
    partition.advance(10)
    partition.time.ms = 1_000
    partition.note_end(10, now_ms=2_000)
    assert partition.lag_ms(2_000 + UNHEARD_MS - 1) == 0
    assert partition.lag_ms(2_000 + UNHEARD_MS) == UNHEARD_MS
    # The messages of an hour come at once, the first of them an hour old.
    partition.note_end(500, now_ms=3_602_000)
    assert partition.lag_ms(3_602_000) == 3_600_000


@pytest.mark.parametrize(
    ("broker", "is_heard"),
    [
        ('{"nodeid": 1, "source": "learned", "state": "UP", "rxidle": 500000}', True),
        ('{"nodeid": 1, "source": "learned", "state": "UP", "rxidle": 2000000}', False),
        ('{"nodeid": 1, "source": "learned", "state": "UP", "rxidle": -1}', False),
        ('{"nodeid": 1, "source": "learned", "state": "TRY_CONNECT", "rxidle": 10}', False),
        ('{"nodeid": 1, "source": "logical", "state": "UP", "rxidle": 10}', False),
        ('{"nodeid": 2, "source": "learned", "state": "UP", "rxidle": 10}', False),
    ],
)
def test_only_what_the_broker_of_a_partition_has_just_said_counts_as_its_end(
    broker: str, is_heard: bool
) -> None:
    made_with = settings()
    callbacks = Callbacks(made_with)
    with consumer_without_broker(made_with, connections=callbacks) as consumer:
        partition = own(consumer, 0)
        callbacks.on_statistics(
            f'{{"brokers": {{"a": {broker}}}, "topics": {{"{TOPIC}": '
            '{"partitions": {"0": {"broker": 1, "ls_offset": 12}}}}}'
        )
        assert partition.lag_messages == (12 if is_heard else 0)


def test_a_histogram_counts_each_value_once() -> None:
    histogram = Histogram([1, 2, 4])
    values = np.array([0.5, 1.0, 1.5, 4.0, 9.0])
    for number in values.tolist():
        histogram.add(number)
    assert histogram.counts == [2, 1, 1, 1]
    weighted = Histogram([1, 2, 4])
    weighted.add_all(values, 3)
    assert weighted.counts == [6, 3, 3, 3]
    assert weighted.total == 3 * histogram.total


@pytest.mark.parametrize("messages", [1, MEASURED, MEASURED + 1, 10_000])
def test_some_messages_of_a_poll_stand_for_all(messages: int) -> None:
    totals, times = Totals(), Times()
    record_ms = np.full(messages, 1_000_000)
    times.note(record_ms * 1_000 - 500_000, record_ms)
    times.add(Times())
    times.measure(totals, 1_000.25)
    for histogram, latency_s in ((totals.broker_latency_s, 0.25), (totals.reading_latency_s, 0.75)):
        (place,) = np.flatnonzero(histogram.counts)
        bounds = [0, *histogram.bounds]
        assert bounds[place] < latency_s <= bounds[place + 1]
        assert sum(histogram.counts) == pytest.approx(messages, abs=messages / MEASURED + 1)
    assert totals.broker_latency_s.total >= 0.25 * messages


def test_the_lateness_of_every_event_is_measured() -> None:
    totals, times, later = Totals(), Times(), Times()
    times.note_events(np.array([1_000_000, 999_000]))
    later.note_events(np.array([400_000]))
    times.add(later)
    times.measure(totals, 1_000.25)
    histogram = totals.event_lateness_s
    counts = dict(zip([*histogram.bounds, math.inf], histogram.counts, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {0.5: 1, 2: 1, 1_200: 1}
    assert histogram.total == pytest.approx(0.25 + 1.25 + 600.25)


def test_headroom_is_a_metric_of_each_partition_whose_retention_is_known(
    consumer: Consumer,
) -> None:
    own(consumer, 0)
    assert not exported(consumer)["stepstream_retention_headroom_seconds"].samples
    consumer.retention.limits[TOPIC] = Limits(60_000, has_size=False)
    name = "stepstream_retention_headroom_seconds"
    assert value(exported(consumer), name, topic=TOPIC, partition="0") == 60
    consumer.retention.limits[TOPIC] = Limits(math.inf, has_size=False)
    assert value(exported(consumer), name, topic=TOPIC, partition="0") == math.inf


def test_buckets_rise() -> None:
    for histogram in vars(Totals()).values():
        if isinstance(histogram, Histogram):
            assert all(low < high for low, high in pairwise(histogram.bounds))


def test_the_reference_in_the_docs_is_that_of_the_list() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text() == render_reference(), (
        "python -m stepstream.metrics.reference > docs/metrics.md"
    )


def test_promtool_finds_nothing_to_complain_about(consumer: Consumer) -> None:
    if shutil.which("promtool") is None:
        missing("promtool, of Prometheus")
    own(consumer, 0)
    text = generate_latest(make_registry(consumer, METRICS))
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
