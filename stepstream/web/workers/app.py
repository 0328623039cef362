"""The parent's application: one address for all workers."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stepstream.otlp.failures import PushFailures
from stepstream.web.access import Access
from stepstream.web.answers import refuse
from stepstream.web.bodies import (
    Bodies,
    TooBusy,
    TooLarge,
    WrongType,
    check_type,
    while_connected,
)
from stepstream.web.page import Page
from stepstream.web.routing import make_asgi, page_routes
from stepstream.web.scraping import Scrapes
from stepstream.web.timeline import Timeline
from stepstream.web.traffic import Traffic, TrafficCollector
from stepstream.web.workers.clients import Client
from stepstream.web.workers.devices import WorkerDevices, pass_on
from stepstream.web.workers.metrics import render
from stepstream.web.workers.panels import WorkerPanels
from stepstream.web.workers.samples import MergedSamples

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from starlette.requests import Request

    from stepstream.settings import Settings
    from stepstream.workers.supervisor import Supervisor

__all__ = ["WorkersApp"]

LIVE_S = 10.0
"""The parent turns ten times a second; one that didn't for this time is stuck."""
MAX_BODY_BYTES = 4 << 20
DETECT_TIMEOUT_S = 12.0
"""Longer than a worker takes before it gives up."""
MAX_DETECTING = 5
"""Requests to `/v1/detect` for each worker: one computed, four waiting."""
OWN_HEADERS = {
    "host", "connection", "content-length", "transfer-encoding", "accept-encoding", "authorization",
    "cookie", "expect", "keep-alive", "te", "trailer", "upgrade",
}  # fmt: skip
"""Headers of a request that are not passed on to a worker."""


class WorkersApp:
    """Answers for all workers, and what it does beside that.

    Parameters
    ----------
    settings
        All settings.
    supervisor
        Knows how the workers are.
    paths
        The sockets they listen on.
    """

    def __init__(self, settings: Settings, supervisor: Supervisor, paths: Sequence[Path]) -> None:
        self.traffic = Traffic()
        self.push_failures = PushFailures()
        self._supervisor = supervisor
        self._clients = [Client(number, path) for number, path in enumerate(paths)]
        self._timeline = Timeline(settings.kafka.hide_secrets)
        self._samples = MergedSamples(self._clients, supervisor, self._timeline)
        devices = WorkerDevices(self._clients)
        panels = WorkerPanels(self._clients, self._timeline)
        self._page = Page(self._samples, devices)
        self._turns = count()
        self._bodies = Bodies(MAX_BODY_BYTES)
        access = Access(settings.http)
        self.routes = [
            Route("/livez", self._live),
            Route("/readyz", self._ready),
            Route("/metrics", Scrapes(self.render).answer),
            *page_routes(self._page, access, panels.routes),
            Route("/v1/devices", devices.list),
            Route("/v1/devices/{device_id:path}", devices.show),
            Route("/v1/activity/{device_id:path}", panels.routes["activity"]),
            Route("/v1/detect", self._detect, methods=["POST"]),
        ]
        self.asgi = make_asgi(self.routes, settings.http, access, self.traffic)

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve, and take samples meanwhile."""
        sampling = asyncio.create_task(self._samples.run())
        try:
            with self._timeline:
                await serving
        finally:
            sampling.cancel()
            await asyncio.gather(
                sampling, *(client.close() for client in self._clients), return_exceptions=True
            )

    def close(self) -> None:
        """End the streams of open pages; from another thread."""
        self._page.close()

    async def _live(self, _request: Request) -> Response:
        is_live = self._supervisor.last_turn_age_s < LIVE_S
        return PlainTextResponse("live\n" if is_live else "not live\n", 200 if is_live else 503)

    async def _ready(self, _request: Request) -> Response:
        obstacles = self._supervisor.obstacles()
        texts = [f"worker {n}: {'; '.join(found)}\n" for n, found in obstacles.items() if found]
        if not texts:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {''.join(texts)}", 503)

    async def render(self, encode: Callable[[Any], bytes]) -> bytes:
        """The metrics of all workers."""
        own = (TrafficCollector(self.traffic), self.push_failures)
        return await render(encode, self._clients, self._supervisor, own)

    async def _detect(self, request: Request) -> Response:
        """Have the workers detect steps in turn; one that is busy is passed over."""
        try:
            async with asyncio.timeout(DETECT_TIMEOUT_S):
                check_type(request)
                body = await self._bodies.read(request)
                if self.traffic.detecting >= MAX_DETECTING * len(self._clients):
                    return _later("other requests are being computed")
                return await while_connected(request, self._pass_round(request, body))
        except WrongType as error:
            return refuse(415, "media-type", str(error), {"accept-encoding": "identity"})
        except TooLarge as error:
            return refuse(413, "too-large", str(error))
        except TooBusy as error:
            return _later(str(error))
        except TimeoutError:
            return _later(f"not done within {DETECT_TIMEOUT_S:.0f} s")

    async def _pass_round(self, request: Request, body: bytes) -> Response:
        # The device may stand in a header, as the settings say.
        headers = {k: v for k, v in request.headers.items() if k not in OWN_HEADERS}
        self.traffic.detecting += 1
        try:
            first = next(self._turns)
            for place in range(len(self._clients)):
                client = self._clients[(first + place) % len(self._clients)]
                found = await client.ask(
                    "/v1/detect", body=body, timeout_s=DETECT_TIMEOUT_S, headers=headers
                )
                if found is not None and found.status != 503:
                    return pass_on(found)
            return _later("no worker is free")
        finally:
            self.traffic.detecting -= 1


def _later(detail: str) -> Response:
    return refuse(503, "busy", detail, {"retry-after": "1"})
