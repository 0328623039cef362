"""What is counted of the pushes themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.metrics_core import Metric as Family

__all__ = ["PushFailures"]


class PushFailures(Collector):
    """Counts pushes that failed; its metric is there whether anything is pushed or not.

    Attributes
    ----------
    name, kind, text, labels
        As Prometheus knows it.
    count
        Failures until now.
    """

    name = "stepstream_otlp_failures_total"
    kind = "counter"
    text = "Pushes of metrics over OTLP that failed, or of which the receiver refused a part."
    labels: ClassVar[Mapping[str, str]] = {}

    def __init__(self) -> None:
        self.count = 0

    def collect(self) -> Iterator[Family]:
        """The metric, as it is now."""
        yield CounterMetricFamily(self.name, self.text, value=self.count)
