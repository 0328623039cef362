"""Metrics in the formats of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from stepstream.metrics import METRICS, Labelled, Labels, Metric
from stepstream.streaming.totals import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric as Family

    from stepstream.streaming.consumer import Consumer

__all__ = ["make_registry"]


class _ConsumerCollector(Collector):
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def collect(self) -> Iterator[Family]:
        """All metrics, as they are now."""
        for metric in METRICS:
            yield _family(metric, metric.read(self._consumer))


def _family(metric: Metric, value: float | Histogram | Labelled | Labels) -> Family:
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


def make_registry(consumer: Consumer) -> CollectorRegistry:
    """A registry with a consumer's metrics and those of its process."""
    registry = CollectorRegistry()
    registry.register(_ConsumerCollector(consumer))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
