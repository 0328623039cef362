"""The metrics of all workers as one page, each sample with its worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from stepstream.web.workers.clients import ask_all
from stepstream.workers.supervisor import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from stepstream.web.workers.clients import Client
    from stepstream.workers.supervisor import Supervisor

__all__ = ["WORKER_METRICS", "WorkerMetric", "make_registry", "render"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PARENT = "parent"
"""Value of the label `worker` where the parent's own process is meant."""


@dataclass(frozen=True)
class WorkerMetric:
    """A metric about workers, which only their parent has.

    Attributes
    ----------
    name, kind, text
        As Prometheus knows it.
    labels
        Names and meanings of its labels.
    read
        Values by the values of its labels.
    """

    name: str
    kind: Literal["counter", "gauge"]
    text: str
    labels: Mapping[str, str]
    read: Callable[[Supervisor], Mapping[tuple[str, ...], float]]


def _phases(supervisor: Supervisor) -> Mapping[tuple[str, ...], float]:
    counts = Counter(worker.phase for worker in supervisor.workers)
    return {(phase.value,): counts[phase] for phase in Phase if phase is not Phase.ENDED}


WORKER_METRICS = (
    WorkerMetric(
        "stepstream_workers",
        "gauge",
        "Workers by what their parent knows of them.",
        {
            "state": "`waiting` for a restart, `starting`, `running`, or `given-up` after too "
            "many deaths in a row"
        },
        _phases,
    ),
    WorkerMetric(
        "stepstream_worker_restarts_total",
        "counter",
        "Times that a worker was started again because its process had ended.",
        {"worker": "its number"},
        lambda supervisor: {(str(w.number),): w.restarts for w in supervisor.workers},
    ),
)


class _Merged(Collector):
    def __init__(
        self, supervisor: Supervisor, own: Sequence[Collector], pages: Mapping[int, bytes]
    ) -> None:
        self._supervisor = supervisor
        self._own = own
        self._pages = pages

    def collect(self) -> Iterator[Family]:
        for metric in WORKER_METRICS:
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.text.replace("`", ""), labels=list(metric.labels))
            for labels, value in metric.read(self._supervisor).items():
                family.add_metric(labels, value)
            yield family
        process = CollectorRegistry()
        ProcessCollector(registry=process)
        own = [family for collector in self._own for family in collector.collect()]
        left_out = {family.name for family in own}
        silent = [w.number for w in self._supervisor.workers if w.number not in self._pages]
        yield from _merge(
            [
                *((str(worker), _parse(page, left_out)) for worker, page in self._pages.items()),
                *((str(worker), [_unready()]) for worker in silent),
                (PARENT, process.collect()),
                (PARENT, own),
            ]
        )


def _parse(page: bytes, left_out: Container[str]) -> Iterator[Family]:
    """The metrics of a worker, without those that its parent has itself."""
    families: Iterator[Family] = text_string_to_metric_families(page.decode())  # type: ignore[no-untyped-call]
    return (family for family in families if family.name not in left_out)


def _unready() -> Family:
    """What is known of a worker that doesn't answer, so that its alert fires."""
    return GaugeMetricFamily("stepstream_ready", "1 if the process is ready.", value=0)


def _merge(sources: Iterable[tuple[str, Iterable[Family]]]) -> Iterable[Family]:
    merged: dict[str, Family] = {}
    for worker, families in sources:
        for family in families:
            known = merged.setdefault(
                family.name, Family(family.name, family.documentation, family.type)
            )
            known.samples += [
                sample._replace(labels={"worker": worker, **sample.labels})
                for sample in family.samples
            ]
    return merged.values()


def make_registry(
    supervisor: Supervisor, own: Sequence[Collector], pages: Mapping[int, bytes]
) -> CollectorRegistry:
    """A registry with the metrics of all workers and those of their parent.

    Parameters
    ----------
    supervisor
        Knows the workers.
    own
        Metrics that the parent has itself; those of the same names are left out of the workers'.
    pages
        Metrics of each worker as it serves them, in OpenMetrics' format.
    """
    registry = CollectorRegistry()
    registry.register(_Merged(supervisor, own, pages))
    return registry


async def render(
    encode: Callable[[CollectorRegistry], bytes],
    clients: Sequence[Client],
    supervisor: Supervisor,
    own: Sequence[Collector],
) -> bytes:
    """A page with the metrics of all workers, which are asked for them; see `make_registry`."""
    answers = await ask_all(clients, "/metrics", headers={"accept": OPENMETRICS})
    pages = {one.worker: one.body for one in answers if one.status == 200}
    registry = make_registry(supervisor, own, pages)
    # To parse them takes a while, with many partitions.
    return await asyncio.to_thread(encode, registry)
