"""Metrics in the formats of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from stepstream.streaming.totals import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

    from stepstream.metrics import Labelled, Labels, Metric

__all__ = ["make_registry"]

S = TypeVar("S")


class _Collector(Collector, Generic[S]):
    def __init__(self, source: S, metrics: Sequence[Metric[S]]) -> None:
        self._source = source
        self._metrics = metrics

    def collect(self) -> Iterator[Family]:
        """All metrics, as they are now."""
        for metric in self._metrics:
            yield _family(metric, metric.read(self._source))


def _family(metric: Metric[Any], value: float | Histogram | Labelled | Labels) -> Family:
    # Backquotes are for the docs.
    name, text = metric.name, metric.text.replace("`", "")
    if isinstance(value, Histogram):
        sums = list(accumulate(value.counts))
        bounds = [*map(str, map(float, value.bounds)), "+Inf"]
        return HistogramMetricFamily(
            name, text, buckets=list(zip(bounds, sums, strict=True)), sum_value=value.total
        )
    if metric.kind == "info":
        info: Labels = value  # type: ignore[assignment]
        return InfoMetricFamily(name.removesuffix("_info"), text, dict(info))
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    if not isinstance(value, Mapping):
        return kind(name, text, value=value)
    family = kind(name, text, labels=list(metric.labels or {}))
    for labels, number in value.items():
        family.add_metric(labels, float(number))
    return family


def make_registry(source: S, metrics: Sequence[Metric[S]]) -> CollectorRegistry:
    """A registry with the metrics of a consumer, or of something else, and of its process.

    Parameters
    ----------
    source
        What the metrics are read from.
    metrics
        Its metrics.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(source, metrics))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
