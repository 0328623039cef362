"""What lies around all routes: who may ask, compression, headers, and answers to errors."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles

from stepstream.web.access_log import AccessLog
from stepstream.web.answers import SECURITY_HEADERS, STATIC, refuse
from stepstream.web.protocol import MAX_HEADER_BYTES
from stepstream.web.traffic import OTHER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stepstream.settings import HttpSettings
    from stepstream.web.access import Access
    from stepstream.web.page import Page
    from stepstream.web.traffic import Traffic

__all__ = ["get_only", "make_asgi", "page_routes"]


class _Outermost:
    """Counts and logs requests, bounds their headers, gives answers the security headers."""

    def __init__(
        self,
        app: ASGIApp,
        traffic: Traffic,
        routes: Sequence[BaseRoute],
        access_log: AccessLog | None,
    ) -> None:
        self._app = app
        self._traffic = traffic
        self._access_log = access_log
        self._routes = {_path(route): route for route in routes}
        traffic.know(self._routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began_s = time.perf_counter()
        # If nobody waits for the answer any more.
        status, is_stream = 499, False

        async def send_more(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower(): value for name, value in message["headers"]}
                if given.get(b"content-type", b"").startswith(b"text/event-stream"):
                    is_stream = True
                    self._traffic.streams += 1
                added = [item for item in SECURITY_HEADERS.items() if item[0] not in given]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        try:
            await (_too_long(scope) or self._app)(scope, receive, send_more)
        finally:
            took_s = time.perf_counter() - began_s
            self._traffic.streams -= is_stream
            self._traffic.note(self._route_of(scope), status, None if is_stream else took_s)
            if self._access_log is not None:
                self._access_log.note(scope, status, took_s)

    def _route_of(self, scope: Scope) -> str:
        for path, route in self._routes.items():
            # Whether another method would be answered doesn't matter.
            if route.matches(scope)[0] is not Match.NONE:
                return path
        return OTHER


def _path(route: BaseRoute) -> str:
    return str(getattr(route, "path", "")).replace(":path", "")


def _too_long(scope: Scope) -> Response | None:
    """A refusal for headers that are too long, which the parser takes if they come at once."""
    lines = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    size = lines + len(scope["raw_path"]) + len(scope["query_string"])
    if size <= MAX_HEADER_BYTES:
        return None
    return refuse(431, "headers", f"the headers have over {MAX_HEADER_BYTES} bytes, the limit")


def get_only(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    """A route of a stream: HEAD would be answered with one that nobody reads."""
    route = Route(path, endpoint)
    route.methods = {"GET"}
    return route


def page_routes(
    page: Page, access: Access, panels: Mapping[str, Callable[[Request], Awaitable[Response]]]
) -> list[BaseRoute]:
    """Routes of the page and of the document about all routes.

    Parameters
    ----------
    page
        The page and its stream.
    access
        Lets browsers log in.
    panels
        What the page asks for now and then, by the last part of its path.
    """
    return [
        Route("/", _to_page),
        Route("/openapi.json", _openapi),
        Route("/performance", page.show),
        Route("/performance/", _without_slash),
        Route("/performance/login", access.log_in, methods=["POST"]),
        get_only("/performance/stream", page.stream),
        *(Route(f"/performance/{name}", show) for name, show in panels.items()),
        Mount("/performance/static", StaticFiles(packages=[("stepstream.web", "static")])),
    ]


def make_asgi(
    routes: Sequence[BaseRoute], http: HttpSettings, access: Access, traffic: Traffic
) -> ASGIApp:
    """An application that answers as the settings want it."""
    cors = Middleware(
        CORSMiddleware,
        allow_origins=http.cors_origins,
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type"],
    )
    app = Starlette(
        routes=routes,
        middleware=[
            *([cors] if http.cors_origins else []),
            Middleware(GZipMiddleware, minimum_size=1_000, compresslevel=5),
            Middleware(access.middleware),
        ],
        exception_handlers={
            HTTPException: _explain,
            ClientDisconnect: _give_up,
            Exception: _apologize,
        },
    )
    # Redirections would have the address that the client wrote into its Host header.
    app.router.redirect_slashes = False
    return _Outermost(app, traffic, routes, AccessLog() if http.access_log else None)


async def _openapi(_request: Request) -> Response:
    return Response((STATIC / "openapi.json").read_bytes(), media_type="application/json")


async def _to_page(_request: Request) -> Response:
    return RedirectResponse("/performance", 307)


async def _without_slash(_request: Request) -> Response:
    return RedirectResponse("/performance", 308)


async def _give_up(_request: Request, _error: Exception) -> Response:
    """Nobody is there to read this."""
    return Response(status_code=499)


async def _explain(_request: Request, error: Exception) -> Response:
    status, detail, headers = 500, "", None
    with suppress(AttributeError):
        status, detail, headers = error.status_code, error.detail, error.headers  # type: ignore[attr-defined]
    return refuse(status, detail.lower().replace(" ", "-"), detail, headers)


async def _apologize(_request: Request, _error: Exception) -> Response:
    return refuse(500, "internal-error", "the log says more")
