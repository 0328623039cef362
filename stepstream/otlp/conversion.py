"""From metrics as Prometheus knows them to a request of OTLP."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from stepstream import __version__
from stepstream.web.workers.metrics import WORKER_METRICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family
    from prometheus_client.samples import Sample

__all__ = ["encode_metrics"]

Value: TypeAlias = "str | bool | int | float"

UNITS = {"seconds": "s", "bytes": "By", "ratio": "1"}
"""By the last word of a metric's name."""
SUFFIXES = {"counter": "_total", "info": "_info"}
"""What a type adds to the name of its family."""
OF_PARENT = {metric.name for metric in WORKER_METRICS}
"""The parent counts these, whatever worker their label names."""
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE


def encode_metrics(
    registry: CollectorRegistry, resource: Mapping[str, Value], began_ns: int, now_ns: int
) -> bytes:
    """An ``ExportMetricsServiceRequest`` with all metrics of a registry, named as on `/metrics`.

    Parameters
    ----------
    registry
        The metrics.
    resource
        Attributes of what they are about.
    began_ns
        When counting began, for processes that don't say it by `process_start_time_seconds`;
        nanoseconds since the epoch.
    now_ns
        The present time.
    """
    families = list(registry.collect())
    starts = {
        sample.labels.get("worker", ""): round(sample.value * 1e9)
        for family in families
        if family.name == "process_start_time_seconds"
        for sample in family.samples
    }

    def start_ns(sample: Sample) -> int:
        """When the process began whose value it is."""
        worker = "parent" if sample.name in OF_PARENT else sample.labels.get("worker", "")
        return starts.get(worker, began_ns)

    scope = ScopeMetrics(
        scope=InstrumentationScope(name="stepstream", version=__version__),
        metrics=[_convert(family, start_ns, now_ns) for family in families if family.samples],
    )
    described = Resource(attributes=_attributes(resource))
    return ExportMetricsServiceRequest(
        resource_metrics=[ResourceMetrics(resource=described, scope_metrics=[scope])]
    ).SerializeToString()


def _convert(family: Family, start_ns: Callable[[Sample], int], now_ns: int) -> Metric:
    metric = Metric(
        name=family.name + SUFFIXES.get(family.type, ""),
        description=family.documentation,
        unit=UNITS.get(family.name.rpartition("_")[2], ""),
    )
    if family.type == "histogram":
        points = _histogram_points(family.samples, start_ns, now_ns)
        metric.histogram.CopyFrom(Histogram(data_points=points, aggregation_temporality=CUMULATIVE))
        return metric
    # NaN means that there is no value.
    samples = [s for s in family.samples if s.name == metric.name and not math.isnan(s.value)]
    numbers = [
        NumberDataPoint(
            attributes=_attributes(sample.labels),
            start_time_unix_nano=start_ns(sample),
            time_unix_nano=now_ns,
            as_double=sample.value,
        )
        for sample in samples
    ]
    if family.type == "counter":
        metric.sum.CopyFrom(
            Sum(data_points=numbers, aggregation_temporality=CUMULATIVE, is_monotonic=True)
        )
    else:
        metric.gauge.CopyFrom(Gauge(data_points=numbers))
    return metric


def _histogram_points(
    samples: Iterable[Sample], start_ns: Callable[[Sample], int], now_ns: int
) -> list[HistogramDataPoint]:
    """A point for each set of labels; Prometheus has a sample for each bucket and those below."""
    points: dict[frozenset[tuple[str, str]], HistogramDataPoint] = {}
    sums: defaultdict[frozenset[tuple[str, str]], list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        key = frozenset(labels.items())
        if key not in points:
            points[key] = HistogramDataPoint(
                attributes=_attributes(labels),
                start_time_unix_nano=start_ns(sample),
                time_unix_nano=now_ns,
            )
        if sample.name.endswith("_bucket"):
            sums[key].append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_sum"):
            points[key].sum = sample.value
    for key, point in points.items():
        buckets = sorted(sums[key])
        counts = [0.0, *(count for _, count in buckets)]
        point.explicit_bounds.extend(bound for bound, _ in buckets[:-1])
        point.bucket_counts.extend(round(upper - lower) for lower, upper in pairwise(counts))
        point.count = round(counts[-1])
    return list(points.values())


def _attributes(values: Mapping[str, Value]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in values.items()]


def _any(value: Value) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return (
        AnyValue(double_value=value) if isinstance(value, float) else AnyValue(string_value=value)
    )
