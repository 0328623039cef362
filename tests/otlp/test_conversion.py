"""What is pushed is what `/metrics` shows."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from stepstream.exposition import make_registry
from stepstream.metrics.consumer import METRICS
from stepstream.otlp.conversion import encode_metrics
from stepstream.streaming.retention import Limits
from stepstream.web.traffic import Traffic, TrafficCollector
from tests.otlp.receiver import Push, attributes
from tests.web.builders import TOPIC, consumer_without_broker, own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric as Family

BEGAN_NS, NOW_NS = 5_000_000_000, 900_000_000_000


class Frozen(Collector):
    """Gives the same families again and again."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Family]:
        yield from self._families


def registry_of(families: Iterable[Family]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Frozen(families))
    return registry


def converted(registry: CollectorRegistry, resource: dict[str, Any] | None = None) -> Push:
    return Push("", {}, encode_metrics(registry, resource or {}, BEGAN_NS, NOW_NS))


@pytest.fixture(scope="module")
def registry() -> CollectorRegistry:
    """Metrics of a consumer and its server, as they were once."""
    with consumer_without_broker() as consumer:
        own(consumer, 0)
        consumer.retention.limits[TOPIC] = Limits(60_000, has_size=False)
        consumer.totals.messages = 7
        for seconds in (0.0004, 0.03, 0.03, 900.0):
            consumer.totals.commit_s.add(seconds)
        traffic = Traffic()
        traffic.know(["/metrics"])
        traffic.note("/metrics", 200, 0.01)
        made = make_registry(consumer, METRICS)
        made.register(TrafficCollector(traffic))
        return registry_of(made.collect())


def samples_of(push: Push) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples as Prometheus has them."""
    found = {}
    for name, metric in push.metrics.items():
        numbers = [*metric.gauge.data_points, *metric.sum.data_points]
        for number in numbers:
            found[name, frozenset(attributes(number.attributes).items())] = number.as_double
        for point in metric.histogram.data_points:
            labels = attributes(point.attributes)
            bounds = [*point.explicit_bounds, math.inf]
            sums = accumulate(point.bucket_counts)
            for bound, count in zip(bounds, sums, strict=True):
                key = frozenset({**labels, "le": str(bound)}.items())
                found[f"{name}_bucket", key] = float(count)
            found[f"{name}_count", frozenset(labels.items())] = float(point.count)
            found[f"{name}_sum", frozenset(labels.items())] = point.sum
    return found


def test_every_sample_of_the_page_is_pushed_and_no_other(registry: CollectorRegistry) -> None:
    shown = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            if "le" in labels:
                labels["le"] = str(float(labels["le"]))
            if not math.isnan(sample.value):
                shown[sample.name, frozenset(labels.items())] = sample.value
    pushed = samples_of(converted(registry))
    assert len(pushed) > 200
    assert pushed == shown


def test_types_are_those_of_the_list_of_metrics(registry: CollectorRegistry) -> None:
    metrics = converted(registry).metrics
    expected = {"counter": "sum", "gauge": "gauge", "info": "gauge", "histogram": "histogram"}
    for metric in METRICS:
        assert metrics[metric.name].WhichOneof("data") == expected[metric.kind], metric.name
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    messages = metrics["stepstream_messages_total"].sum
    assert (messages.is_monotonic, messages.aggregation_temporality) == (True, cumulative)
    commits = metrics["stepstream_commit_seconds"].histogram
    assert commits.aggregation_temporality == cumulative
    (model,) = metrics["stepstream_model_info"].gauge.data_points
    assert model.as_double == 1
    assert attributes(model.attributes).keys() == {"model", "name", "version"}


def test_a_histogram_has_its_bounds_and_a_count_for_each_bucket(
    registry: CollectorRegistry,
) -> None:
    (point,) = converted(registry).metrics["stepstream_commit_seconds"].histogram.data_points
    bounds = list(point.explicit_bounds)
    assert bounds == sorted(bounds)
    assert len(point.bucket_counts) == len(bounds) + 1
    assert point.count == sum(point.bucket_counts) == 4
    assert point.bucket_counts[-1] == 1
    assert max(point.bucket_counts) == 2
    assert point.sum == pytest.approx(900.0604)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("stepstream_commit_seconds", "s"),
        ("stepstream_processing_seconds_total", "s"),
        ("process_start_time_seconds", "s"),
        ("stepstream_outbox_bytes", "By"),
        ("stepstream_kafka_sent_bytes_total", "By"),
        ("stepstream_messages_total", ""),
        ("stepstream_model_info", ""),
    ],
)
def test_units_are_those_of_the_names(registry: CollectorRegistry, name: str, unit: str) -> None:
    metric = converted(registry).metrics[name]
    assert metric.unit == unit
    assert metric.description


def test_a_counter_began_with_its_process(registry: CollectorRegistry) -> None:
    push = converted(registry)
    (messages,) = push.metrics["stepstream_messages_total"].sum.data_points
    began_s = push.value("process_start_time_seconds")
    assert messages.start_time_unix_nano == pytest.approx(began_s * 1e9, abs=1e6)
    assert messages.time_unix_nano == NOW_NS


def test_a_counter_of_a_worker_began_with_the_worker_and_its_restarts_with_the_parent() -> None:
    starts = GaugeMetricFamily("process_start_time_seconds", "Start.", labels=["worker"])
    for worker, began_s in (("0", 100.5), ("1", 200.25), ("parent", 50.0)):
        starts.add_metric([worker], began_s)
    readings = CounterMetricFamily("stepstream_readings", "Readings.", labels=["worker"])
    restarts = CounterMetricFamily("stepstream_worker_restarts", "Restarts.", labels=["worker"])
    for worker in "01":
        readings.add_metric([worker], 3)
        restarts.add_metric([worker], 1)
    metrics = converted(registry_of([starts, readings, restarts])).metrics
    points = metrics["stepstream_readings_total"].sum.data_points
    assert [point.start_time_unix_nano for point in points] == [100_500_000_000, 200_250_000_000]
    points = metrics["stepstream_worker_restarts_total"].sum.data_points
    assert [point.start_time_unix_nano for point in points] == [50_000_000_000] * 2


def test_without_a_start_of_the_process_counting_began_as_it_is_told() -> None:
    push = converted(registry_of([CounterMetricFamily("pushes", "Pushes.", value=2)]))
    (point,) = push.metrics["pushes_total"].sum.data_points
    assert point.start_time_unix_nano == BEGAN_NS


def test_no_value_is_no_point() -> None:
    families = [GaugeMetricFamily("limit", "L.", math.nan), GaugeMetricFamily("up", "U.", 1)]
    metrics = converted(registry_of(families)).metrics
    assert len(metrics["limit"].gauge.data_points) == 0
    assert len(metrics["up"].gauge.data_points) == 1


def test_attributes_of_the_resource_keep_their_types() -> None:
    given = {"service.name": "steps", "beta": True, "floor": 3, "share": 0.5}
    found = converted(registry_of([]), given).resource
    assert found == given
    assert [type(value) for value in found.values()] == [str, bool, int, float]
