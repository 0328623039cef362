"""What is served: routes, and what lies around all of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stepstream.exposition import make_registry
from stepstream.web.access import Access
from stepstream.web.answers import refuse
from stepstream.web.detection import Detection
from stepstream.web.devices import Devices
from stepstream.web.page import Page
from stepstream.web.sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stepstream.settings import Settings
    from stepstream.streaming.consumer import Consumer

__all__ = ["App", "make_app"]

REFRESH_S = 2.0
"""How often the ends of partitions are asked for that nothing is fetched of."""
STATIC = files("stepstream.web") / "static"
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; frame-ancestors 'self'",
    b"cache-control": b"no-store",
}


class _SecurityHeaders:
    """Headers that tell browsers to be careful."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                added = [item for item in SECURITY_HEADERS.items() if item[0] not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_more)


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
        self._registry = make_registry(consumer)
        self._sampler = Sampler(settings, consumer)
        self._detection = Detection(settings)
        self._page = Page(consumer, self._sampler)
        devices = Devices(settings, consumer)
        access = Access(settings.http.token)
        self.routes = [
            Route("/livez", self._live),
            Route("/readyz", self._ready),
            Route("/metrics", self._metrics),
            Route("/openapi.json", _openapi),
            Route("/performance", self._page.show),
            Route("/performance/login", access.log_in, methods=["POST"]),
            Route("/performance/samples", self._page.samples),
            Route("/performance/signal", self._page.signal),
            Mount("/performance/static", StaticFiles(packages=[("stepstream.web", "static")])),
            Route("/v1/devices", devices.list),
            Route("/v1/devices/{device_id:path}", devices.show),
            Route("/v1/detect", self._detection.detect, methods=["POST"]),
        ]
        cors = Middleware(
            CORSMiddleware,
            allow_origins=settings.http.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
        self.asgi = Starlette(
            routes=self.routes,
            middleware=[
                Middleware(_SecurityHeaders),
                *([cors] if settings.http.cors_origins else []),
                Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5),
                Middleware(access.middleware),
            ],
            exception_handlers={HTTPException: _explain, Exception: _apologize},
        )

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve; meanwhile take samples, and look for the ends of partitions that are paused."""
        beside = [asyncio.create_task(self._sampler.run()), asyncio.create_task(self._refresh())]
        try:
            await serving
        finally:
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

    async def _live(self, _request: Request) -> Response:
        is_live = self._consumer.health.is_live
        return PlainTextResponse("live\n" if is_live else "not live\n", 200 if is_live else 503)

    async def _ready(self, _request: Request) -> Response:
        obstacles = self._consumer.health.obstacles
        if not obstacles:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"not ready: {'; '.join(obstacles)}\n", 503)

    async def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self._registry), headers={"content-type": content_type})


async def _openapi(_request: Request) -> Response:
    return Response((STATIC / "openapi.json").read_bytes(), media_type="application/json")


async def _explain(_request: Request, error: Exception) -> Response:
    status, detail, headers = 500, "", None
    with suppress(AttributeError):
        status, detail, headers = error.status_code, error.detail, error.headers  # type: ignore[attr-defined]
    return refuse(status, detail.lower().replace(" ", "-"), detail, headers)


async def _apologize(_request: Request, _error: Exception) -> Response:
    return refuse(500, "internal-error", "the log says more")


def make_app(settings: Settings, consumer: Consumer) -> App:
    """The application of a consumer."""
    return App(settings, consumer)
