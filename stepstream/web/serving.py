"""What a process without Kafka serves."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stepstream.exposition import make_registry
from stepstream.metrics import OF_SERVER
from stepstream.otlp.failures import PushFailures
from stepstream.web.access import Access
from stepstream.web.answers import STATIC
from stepstream.web.batches import ALONE
from stepstream.web.detection import Detection
from stepstream.web.routing import make_asgi
from stepstream.web.scraping import Scrapes
from stepstream.web.traffic import Traffic, TrafficCollector
from stepstream.web.workers.clients import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

    from stepstream.detection import Model
    from stepstream.settings import ServeSettings

__all__ = ["ServeApp"]

BEAT_S = 0.25
STUCK_S = 5.0
"""Time without a beat of the event loop after which it is stuck."""
CLOSE = (b"connection", b"close")


class Health:
    """How this process is; any thread may ask."""

    def __init__(self) -> None:
        self._is_leaving = False
        self._beat_s = time.monotonic()

    @property
    def is_live(self) -> bool:
        """Whether the event loop turns."""
        return time.monotonic() - self._beat_s < STUCK_S

    @property
    def is_ready(self) -> bool:
        """Whether further requests are welcome."""
        return not self._is_leaving

    @property
    def obstacles(self) -> list[str]:
        """What keeps it from being ready, in words."""
        return ["it is stopping"] if self._is_leaving else []

    def beat(self) -> None:
        """Note that the event loop turns."""
        self._beat_s = time.monotonic()

    def leave(self) -> None:
        """Be ready no more."""
        self._is_leaving = True


class ServeApp:
    """Finds steps, and says how it is.

    Parameters
    ----------
    settings
        All settings.
    parent
        The socket of the parent, if this is one of several workers: it has the metrics of all.

    Raises
    ------
    ModelError
        The model can't be used.
    """

    def __init__(self, settings: ServeSettings, parent: Path | None = None) -> None:
        self.traffic = Traffic()
        self._detection = Detection(settings, self.traffic, ALONE)
        self.model: Model = self._detection.batches.model
        """The network."""
        self.health = Health()
        """How this process is."""
        self._registry: CollectorRegistry = make_registry(self, OF_SERVER)
        self._registry.register(TrafficCollector(self.traffic))
        self.push_failures = PushFailures()
        self._registry.register(self.push_failures)
        self._scrapes = Scrapes(self.render)
        self._parent = None if parent is None else Client(0, parent)
        self.routes = [
            Route("/livez", self._live),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._describe),
            Route("/v1/detect", self._detection.detect, methods=["POST"]),
        ]
        self._answer = make_asgi(self.routes, settings.http, Access(settings.http), self.traffic)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; with the connection's end, if this process ends."""

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], CLOSE]}
            await send(message)

        await self._answer(scope, receive, send if self.health.is_ready else send_last)

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve, and show meanwhile that the event loop turns."""
        beating = asyncio.create_task(self._beat())
        try:
            await serving
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            self._detection.close()
            if self._parent is not None:
                await self._parent.close()

    def close(self) -> None:
        """Nothing is open that doesn't end by itself."""

    async def _beat(self) -> None:
        while True:
            self.health.beat()
            await asyncio.sleep(BEAT_S)

    async def _live(self, _request: Request) -> Response:
        return PlainTextResponse("live\n")

    async def _ready(self, _request: Request) -> Response:
        obstacles = self.health.obstacles
        if not obstacles:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {'; '.join(obstacles)}\n", 503)

    async def _metrics(self, request: Request) -> Response:
        if self._parent is not None:
            accept = request.headers.get("accept", "")
            found = await self._parent.ask("/metrics", headers={"accept": accept})
            if found is not None:
                kept = {"content-type": found.headers.get("content-type", "text/plain")}
                return Response(found.body, found.status, kept)
        return await self._scrapes.answer(request)

    async def render(self, encode: Callable[[Any], bytes]) -> bytes:
        """The metrics of this process."""
        return encode(self._registry)

    async def _describe(self, _request: Request) -> Response:
        return Response(_document(self.routes), media_type="application/json")


def _document(routes: Sequence[Route]) -> bytes:
    """The part of the document about all routes that is about some of them."""
    document = msgspec.json.decode((STATIC / "openapi.json").read_bytes())
    served = {route.path for route in routes}
    document["paths"] = {path: of for path, of in document["paths"].items() if path in served}
    document["info"]["summary"] = "Detection of steps."
    return msgspec.json.encode(document)
