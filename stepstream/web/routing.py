"""What lies around all routes: who may ask, compression, headers, and answers to errors."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from stepstream.web.answers import STATIC, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stepstream.settings import HttpSettings
    from stepstream.web.access import Access
    from stepstream.web.page import Page

__all__ = ["make_asgi", "page_routes"]

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


def page_routes(page: Page, access: Access) -> list[BaseRoute]:
    """Routes of the page and of the document about all routes."""
    return [
        Route("/openapi.json", _openapi),
        Route("/performance", page.show),
        Route("/performance/login", access.log_in, methods=["POST"]),
        Route("/performance/samples", page.samples),
        Route("/performance/signal", page.signal),
        Mount("/performance/static", StaticFiles(packages=[("stepstream.web", "static")])),
    ]


def make_asgi(routes: Sequence[BaseRoute], http: HttpSettings, access: Access) -> ASGIApp:
    """An application that answers as the settings want it."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=http.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
    )
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(_SecurityHeaders),
            *([cors] if http.cors_origins else []),
            Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5),
            Middleware(access.middleware),
        ],
        exception_handlers={HTTPException: _explain, Exception: _apologize},
    )


async def _openapi(_request: Request) -> Response:
    return Response((STATIC / "openapi.json").read_bytes(), media_type="application/json")


async def _explain(_request: Request, error: Exception) -> Response:
    status, detail, headers = 500, "", None
    with suppress(AttributeError):
        status, detail, headers = error.status_code, error.detail, error.headers  # type: ignore[attr-defined]
    return refuse(status, detail.lower().replace(" ", "-"), detail, headers)


async def _apologize(_request: Request, _error: Exception) -> Response:
    return refuse(500, "internal-error", "the log says more")
