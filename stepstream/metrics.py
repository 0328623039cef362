"""Every metric, in one closed list; values are read when somebody asks, never in the loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from stepstream import __version__
from stepstream.messages import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import Metric as Family

    from stepstream.streaming.consumer import Consumer

__all__ = ["METRICS", "Metric", "make_registry"]


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    name
        Its name, without the ``_total`` that counters end with.
    kind
        Counter or gauge.
    text
        What it counts.
    read
        Its value now.
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    read: Callable[[Consumer], float]


METRICS = (
    Metric(
        "stepstream_messages",
        "counter",
        "Messages taken, valid or not.",
        lambda consumer: consumer.totals.messages,
    ),
    Metric(
        "stepstream_readings",
        "counter",
        "Valid readings taken.",
        lambda consumer: consumer.totals.readings,
    ),
    Metric(
        "stepstream_replayed_messages",
        "counter",
        "Messages read again to rebuild windows after a restart or a rebalance.",
        lambda consumer: consumer.totals.replayed,
    ),
    Metric(
        "stepstream_late_readings",
        "counter",
        "Readings dropped because their device was already past them.",
        lambda consumer: consumer.processor.detector.windows.late_readings,
    ),
    Metric(
        "stepstream_windows_opened",
        "counter",
        "Windows started: new devices, gaps, idle devices, clocks set back.",
        lambda consumer: consumer.processor.detector.windows.opened,
    ),
    Metric(
        "stepstream_events",
        "counter",
        "Step events handed to the outbox.",
        lambda consumer: consumer.totals.events,
    ),
    Metric(
        "stepstream_commits",
        "counter",
        "Commits that succeeded.",
        lambda consumer: consumer.totals.commits,
    ),
    Metric(
        "stepstream_commit_aborts",
        "counter",
        "Commits that were aborted and repeated.",
        lambda consumer: consumer.totals.aborts,
    ),
    Metric(
        "stepstream_commit_seconds",
        "counter",
        "Time spent in commits.",
        lambda consumer: consumer.totals.commit_s,
    ),
    Metric(
        "stepstream_polls",
        "counter",
        "Polls that brought messages.",
        lambda consumer: consumer.totals.polls,
    ),
    Metric(
        "stepstream_processing_seconds",
        "counter",
        "Time spent decoding, detecting and counting.",
        lambda consumer: consumer.totals.processing_s,
    ),
    Metric(
        "stepstream_devices",
        "gauge",
        "Devices with a window.",
        lambda consumer: consumer.processor.detector.device_count,
    ),
    Metric(
        "stepstream_partitions",
        "gauge",
        "Input partitions that this consumer owns.",
        lambda consumer: len(consumer.partitions),
    ),
    Metric(
        "stepstream_held_partitions",
        "gauge",
        "Input partitions that are paused because too much of them is set aside.",
        lambda consumer: sum(p.is_held for p in list(consumer.partitions.values())),
    ),
    Metric(
        "stepstream_outbox_records",
        "gauge",
        "Records that wait to be published.",
        lambda consumer: consumer.waiting_records,
    ),
)

DEAD_LETTERS = "stepstream_dead_letters"


class _ConsumerCollector(Collector):
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    def collect(self) -> Iterator[Family]:
        """All metrics, as they are now."""
        for metric in METRICS:
            family = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            yield family(metric.name, metric.text, value=metric.read(self._consumer))
        letters = CounterMetricFamily(
            DEAD_LETTERS, "Messages set aside as dead letters.", labels=["error"]
        )
        for code in ErrorCode:
            letters.add_metric([code], self._consumer.totals.dead_letters[code])
        yield letters
        yield InfoMetricFamily(
            "stepstream",
            "Version and model.",
            {"version": __version__, "model": self._consumer.model.metadata.label},
        )


def make_registry(consumer: Consumer) -> CollectorRegistry:
    """A registry with a consumer's metrics and those of its process."""
    registry = CollectorRegistry()
    registry.register(_ConsumerCollector(consumer))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
