"""What the server itself does: requests, refusals, streams; its metrics are read from here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric as Family

__all__ = ["HTTP_METRICS", "REASONS", "HttpMetric", "Reason", "Traffic", "TrafficCollector"]

BOUNDS_S = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
OTHER = "other"
"""The route of requests that no route answers."""

Reason: TypeAlias = Literal[
    "connections", "tls", "slow-request", "slow-reader", "malformed", "headers", "token", "host",
    "throttled", "media-type", "too-large", "busy",
]  # fmt: skip
REASONS: dict[Reason, str] = {
    "connections": "closed, to make room for another connection",
    "tls": "a connection that TLS couldn't be agreed on with",
    "slow-request": "a request that didn't come as a whole in time",
    "slow-reader": "an answer that wasn't read in time",
    "malformed": "not HTTP",
    "headers": "too many bytes of headers",
    "token": "no token, or a wrong one",
    "host": "no token is set, and the request came from elsewhere or under another name",
    "throttled": "too many wrong tokens on the page's form",
    "media-type": "the body's type or compression",
    "too-large": "the body, or the signal in it",
    "busy": "503, but for probes",
}
_BY_STATUS: dict[int, Reason] = {
    401: "token", 403: "host", 413: "too-large", 415: "media-type", 429: "throttled",
    431: "headers", 503: "busy",
}  # fmt: skip
PROBES = ("/livez", "/readyz")


class Traffic:
    """Counts of a server; all its bounds are those of the lists above and of its routes."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.refusals: Counter[Reason] = Counter(dict.fromkeys(REASONS, 0))
        self.seconds: dict[str, tuple[list[int], list[float]]] = {}
        self.connections = 0
        self.streams = 0
        self.detecting = 0

    def know(self, routes: Iterable[str]) -> None:
        """Begin to count requests to these routes."""
        for route in (*routes, OTHER):
            self.requests[route, "200"] += 0
            self.seconds[route] = [0] * (len(BOUNDS_S) + 1), [0.0]

    def note(self, route: str, status: int, took_s: float | None) -> None:
        """Count a request.

        Parameters
        ----------
        route
            The route that answered it, or `OTHER`.
        status
            Of the answer.
        took_s
            Seconds until all of the answer was given; None for streams.
        """
        self.requests[route, str(status)] += 1
        says_state = status == 503 and route in PROBES
        if status in _BY_STATUS and not says_state:
            self.refusals[_BY_STATUS[status]] += 1
        if took_s is not None:
            counts, total_s = self.seconds[route]
            counts[sum(took_s > bound for bound in BOUNDS_S)] += 1
            total_s[0] += took_s


@dataclass(frozen=True)
class HttpMetric:
    """A metric about the server.

    Attributes
    ----------
    name, kind, text
        As Prometheus knows it.
    labels
        Names and meanings of its labels.
    read
        Values by the values of its labels; none for the histogram, which is `Traffic.seconds`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: Mapping[str, str]
    read: Callable[[Traffic], Mapping[tuple[str, ...], float]] = lambda _: {}


_ROUTE = {"route": "as in `/openapi.json`; `other` for unknown paths"}

HTTP_METRICS = (
    HttpMetric(
        "stepstream_http_requests_total",
        "counter",
        "Requests that were answered over HTTP.",
        {**_ROUTE, "status": "of the answer"},
        lambda traffic: {(*labels,): count for labels, count in traffic.requests.items()},
    ),
    HttpMetric(
        "stepstream_http_request_seconds",
        "histogram",
        "Time from a request's headers to the end of its answer; without streams.",
        _ROUTE,
    ),
    HttpMetric(
        "stepstream_http_refusals_total",
        "counter",
        "Requests and connections that were refused, by the first reason that was found.",
        {"reason": ", ".join(f"`{name}` ({text})" for name, text in REASONS.items())},
        lambda traffic: {(name,): count for name, count in traffic.refusals.items()},
    ),
    HttpMetric(
        "stepstream_http_connections",
        "gauge",
        "Open connections to the server.",
        {},
        lambda traffic: {(): traffic.connections},
    ),
    HttpMetric(
        "stepstream_http_streams",
        "gauge",
        "Open streams of events to pages.",
        {},
        lambda traffic: {(): traffic.streams},
    ),
    HttpMetric(
        "stepstream_detect_requests",
        "gauge",
        "Requests to `/v1/detect` that are computed or wait for that.",
        {},
        lambda traffic: {(): traffic.detecting},
    ),
)


class TrafficCollector(Collector):
    """Gives the metrics of a server.

    Parameters
    ----------
    traffic
        What it counted.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterator[Family]:
        """All metrics, as they are now."""
        for metric in HTTP_METRICS:
            name, text = metric.name, metric.text.replace("`", "")
            if metric.kind == "histogram":
                yield self._histogram(name, text)
                continue
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(name, text, labels=list(metric.labels))
            for labels, value in metric.read(self._traffic).items():
                family.add_metric(labels, value)
            yield family

    def _histogram(self, name: str, text: str) -> Family:
        family = HistogramMetricFamily(name, text, labels=["route"])
        bounds = [*map(str, BOUNDS_S), "+Inf"]
        for route, (counts, (total_s,)) in self._traffic.seconds.items():
            family.add_metric([route], list(zip(bounds, accumulate(counts), strict=True)), total_s)
        return family
