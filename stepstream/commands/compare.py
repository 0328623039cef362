"""``stepstream compare``."""

from __future__ import annotations

import errno
import logging
import signal
import sys
import time
from contextlib import contextmanager
from threading import Event
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, start_http_server
from pydantic import Field

from stepstream.errors import SettingsError, StreamError
from stepstream.logs import configure_logging
from stepstream.otlp.failures import PushFailures
from stepstream.otlp.pusher import Pusher, describe_process
from stepstream.settings import Settings
from stepstream.settings.groups import in_unit
from stepstream.streaming.clients import check_connection, explain_kafka_errors
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.comparison import (
    PERCENTILES,
    Comparison,
    common_ranges,
    compare,
    count_published,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Compare"]

logger = logging.getLogger(__name__)


class Compare(Settings):
    """Compare the steps of two groups that read the same topics, while both run.

    One is the group of the settings, the other the one that `into` names, as a rule with another
    model. Only readings that both have processed are compared.
    """

    window_s: float = Field(900.0, ge=10, le=604_800, json_schema_extra=in_unit("s"))
    """Readings of this time are compared, up to the last that both have processed."""
    every_s: float = Field(60.0, ge=1, le=86_400, json_schema_extra=in_unit("s"))
    """Time between two comparisons."""
    once: bool = False
    """Compare once and end; otherwise `/metrics` on `http.port` has the last result."""

    def execute(self) -> int:
        """Compare, print and serve the result, until SIGTERM or SIGINT."""
        configure_logging(self.logging, self.hide_secrets)
        if self.into is None:
            raise SettingsError("compare needs --into: the name of the other group")
        check_connection(self.kafka)
        with explain_kafka_errors("kafka settings"):
            other = self.renamed()
            clusters = Cluster(self), Cluster(other)
        if self.once:
            sys.stdout.write(self._compare(other, *clusters).describe(self.topics.events))
            return 0
        gauges = Gauges()
        with _stop_signals() as stopped, gauges.served(self):
            while not stopped.is_set():
                begin_s = time.monotonic()
                try:
                    result = self._compare(other, *clusters)
                except StreamError as error:
                    logger.warning("nothing was compared: %s", error)
                else:
                    gauges.set(result)
                    sys.stdout.write(f"{result.describe(self.topics.events)}\n")
                    sys.stdout.flush()
                stopped.wait(max(1.0, self.every_s - (time.monotonic() - begin_s)))
        return 0

    def _compare(self, other: Settings, mine: Cluster, its: Cluster) -> Comparison:
        with explain_kafka_errors("the groups can't be compared"):
            begin_ms = round((time.time() - self.window_s) * 1000)
            ranges = common_ranges(self, mine, its, begin_ms)
            live = count_published(self, mine, self.topics.events, ranges)
            found = count_published(other, its, other.topics.events, ranges)
        return compare(found.counts, live.counts)


class Gauges:
    """The last comparison, for Prometheus."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._push_failures = PushFailures()
        self._registry.register(self._push_failures)
        self._steps = self._gauge("steps", "Steps in the readings that are compared.", "group")
        self._devices = self._gauge(
            "devices", "Devices with steps: by both groups, or by one of them only.", "group"
        )
        self._ratio = self._gauge(
            "ratio",
            "Steps of the other group for each live one: percentile of devices.",
            "percentile",
        )
        self._time = Gauge(
            "stepstream_comparison_timestamp_seconds",
            "When it was compared, seconds since the epoch.",
            registry=self._registry,
        )

    def _gauge(self, name: str, text: str, label: str) -> Gauge:
        return Gauge(f"stepstream_comparison_{name}", text, [label], registry=self._registry)

    def set(self, result: Comparison) -> None:
        """Show a comparison."""
        self._steps.labels("live").set(result.live)
        self._steps.labels("other").set(result.found)
        both = result.devices - result.only_found - result.only_live
        self._devices.labels("both").set(both)
        self._devices.labels("live").set(result.only_live)
        self._devices.labels("other").set(result.only_found)
        for share in PERCENTILES:
            if share in result.ratios:
                self._ratio.labels(str(share)).set(result.ratios[share])
            else:
                self._ratio.remove_by_labels({"percentile": str(share)})
        self._time.set_to_current_time()

    @contextmanager
    def served(self, settings: Settings) -> Iterator[None]:
        """Serve `/metrics`, unless the port is 0; at any free port if the default one is in use.

        They are pushed too, if the settings say where to.
        """
        http = settings.http
        if not http.port:
            yield
            return
        try:
            server, thread = start_http_server(http.port, http.address, self._registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or "port" in http.model_fields_set:
                raise SettingsError(f"http.port {http.port}: {error.strerror}") from None
            server, thread = start_http_server(0, http.address, self._registry)
            logger.info(
                "port %d is taken, another one is used",
                http.port,
                extra={"address": f"http://{http.address}:{server.server_port}"},
            )
        process = describe_process(server.server_port, settings.kafka.group_id)
        try:
            with Pusher(settings.otlp, self._render, self._push_failures, process):
                yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    async def _render(self, encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        return encode(self._registry)


@contextmanager
def _stop_signals() -> Iterator[Event]:
    """An event that SIGTERM and SIGINT set."""
    stopped = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    yield stopped
