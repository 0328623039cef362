"""Metrics as a scraper asks for them; one page serves all who ask at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder
from starlette.responses import Response
from starlette.routing import Route

from stepstream.settings import HttpSettings
from stepstream.web.access import Access
from stepstream.web.routing import make_asgi
from stepstream.web.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from starlette.requests import Request

__all__ = ["MetricsApp", "Scrapes"]


class Scrapes:
    """Answers requests for metrics.

    A page takes milliseconds, and many may ask at once. Each gets a page that was begun after it
    asked, and all who wait get the same one. So others are answered in between.

    Parameters
    ----------
    render
        Makes a page with an encoder of prometheus-client.
    """

    def __init__(self, render: Callable[[Callable[[Any], bytes]], Awaitable[bytes]]) -> None:
        self._render = render
        self._lock = asyncio.Lock()
        self._begun = 0
        self._page = b""
        self._type = ""

    async def answer(self, request: Request) -> Response:
        """The metrics, in the format that is asked for."""
        encode, content_type = _choose(request.headers.get("accept", ""))
        asked = self._begun
        async with self._lock:
            if self._begun == asked or self._type != content_type:
                self._type = ""
                # Those who ask in this turn of the event loop wait for this page.
                await asyncio.sleep(0)
                self._begun += 1
                self._page = await self._render(encode)
                self._type = content_type
            return Response(self._page, headers={"content-type": content_type})


class MetricsApp:
    """Serves metrics and nothing else: what processes of one command ask each other for.

    Parameters
    ----------
    render
        Makes a page with an encoder of prometheus-client.
    """

    def __init__(self, render: Callable[[Callable[[Any], bytes]], Awaitable[bytes]]) -> None:
        self.traffic = Traffic()
        self._render = render
        routes = [Route("/metrics", Scrapes(render).answer)]
        http = HttpSettings()
        self.asgi = make_asgi(routes, http, Access(http), self.traffic)

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve."""
        await serving

    async def render(self, encode: Callable[[Any], bytes]) -> bytes:
        """A page as the encoder writes it."""
        return await self._render(encode)

    def close(self) -> None:
        """Nothing is open that doesn't end by itself."""


def _choose(accept: str) -> tuple[Callable[[Any], bytes], str]:
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError):
        # It can't compare versions that are no numbers. HTTP lets a server ignore `Accept`.
        return choose_encoder("")
