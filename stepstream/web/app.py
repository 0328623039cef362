"""What a consumer serves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stepstream.exposition import make_registry
from stepstream.metrics.consumer import METRICS
from stepstream.otlp.failures import PushFailures
from stepstream.web.access import Access
from stepstream.web.activity import Activity
from stepstream.web.batches import BESIDE_THE_LOOP
from stepstream.web.detection import Detection
from stepstream.web.device_table import DeviceTable
from stepstream.web.devices import Devices
from stepstream.web.group import Group
from stepstream.web.letters import LetterSamples
from stepstream.web.page import Page
from stepstream.web.routing import get_only, make_asgi, page_routes
from stepstream.web.sampling import Sampler
from stepstream.web.scraping import Scrapes
from stepstream.web.timeline import Timeline
from stepstream.web.traffic import Traffic, TrafficCollector
from stepstream.web.watching import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request

    from stepstream.settings import Settings
    from stepstream.streaming.consumer import Consumer

__all__ = ["App", "make_app"]

REFRESH_S = 2.0
"""How often the ends of partitions are asked for that nothing is fetched of."""
RETENTION_S = 30.0
"""How often it is asked for how long brokers keep readings."""


class App:
    """The application, and what it does beside answering.

    Parameters
    ----------
    settings
        All settings.
    consumer
        Whose health, metrics and devices are served.
    """

    def __init__(self, settings: Settings, consumer: Consumer) -> None:
        self._consumer = consumer
        self.traffic = Traffic()
        self._registry = make_registry(consumer, METRICS)
        self._registry.register(TrafficCollector(self.traffic))
        self.push_failures = PushFailures()
        self._registry.register(self.push_failures)
        self._timeline = Timeline(settings.kafka.hide_secrets)
        self._sampler = Sampler(settings, consumer, self._timeline)
        self._letters = LetterSamples(settings.topics.dead_letters)
        self._detection = Detection(settings, self.traffic, BESIDE_THE_LOOP)
        self._page = Page(self._sampler, Watches(settings.topics, consumer))
        devices = Devices(settings, consumer)
        activity = Activity(settings, consumer)
        access = Access(settings.http)
        panels = {
            "activity": activity.show,
            "dead-letters": self._letters.show,
            "devices": DeviceTable(consumer).show,
            "group": Group(consumer).show,
            "timeline": self._timeline.show,
        }
        self.routes = [
            Route("/livez", self._live),
            Route("/readyz", self._ready),
            Route("/metrics", Scrapes(self.render).answer),
            *page_routes(self._page, access, panels),
            Route("/performance/sample", self._page.sample),
            get_only("/performance/signal", self._page.signal),
            Route("/v1/devices", devices.list),
            Route("/v1/devices/{device_id:path}", devices.show),
            Route("/v1/activity/{device_id:path}", activity.show),
            Route("/v1/detect", self._detection.detect, methods=["POST"]),
        ]
        self.asgi = make_asgi(self.routes, settings.http, access, self.traffic)

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve; meanwhile take samples, and ask the brokers for what metrics need."""
        jobs = (self._sampler.run(), self._refresh(), self._refresh_retention())
        beside = [asyncio.create_task(job) for job in jobs]
        consumer = self._consumer
        consumer.watchers = (*consumer.watchers, self._letters.observe)
        try:
            with self._timeline:
                await serving
        finally:
            consumer.watchers = tuple(w for w in consumer.watchers if w != self._letters.observe)
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._detection.close()

    def close(self) -> None:
        """End the streams of open pages; from another thread."""
        self._page.close()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            assignment = self._consumer.assignment
            if any(partition.pause_reasons for partition in assignment.owned):
                await asyncio.to_thread(self._consumer.ends.refresh)

    async def _refresh_retention(self) -> None:
        while True:
            await asyncio.to_thread(self._consumer.retention.refresh)
            # New partitions are to have their metrics soon.
            is_known = self._consumer.retention.limits
            await asyncio.sleep(RETENTION_S if is_known else REFRESH_S)

    async def _live(self, _request: Request) -> Response:
        is_live = self._consumer.health.is_live
        return PlainTextResponse("live\n" if is_live else "not live\n", 200 if is_live else 503)

    async def _ready(self, _request: Request) -> Response:
        obstacles = self._consumer.health.obstacles
        if not obstacles:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {'; '.join(obstacles)}\n", 503)

    async def render(self, encode: Callable[[Any], bytes]) -> bytes:
        """The metrics of this process."""
        return encode(self._registry)


def make_app(settings: Settings, consumer: Consumer) -> App:
    """The application of a consumer."""
    return App(settings, consumer)
