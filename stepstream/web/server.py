"""The server: one thread beside the loop that answers probes, scrapers, browsers and programs."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, Self

import uvicorn
import uvloop
from uvicorn.protocols.http.h11_impl import H11Protocol

from stepstream.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from starlette.types import ASGIApp

    from stepstream.settings import HttpSettings

__all__ = ["Application", "Server"]

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 10.0
"""A request must have come as a whole by then, and an idle connection ends."""
MAX_HEADER_BYTES = 16 << 10
BACKLOG = 128
START_TIMEOUT_S = 10.0


class _Protocol(H11Protocol):
    """HTTP/1.1 with a bound on connections, and on the time that a request may take to come."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # The limit that uvicorn has answers further requests; this one keeps them from coming.
        if len(self.connections) > 2 * (self.limit_concurrency or 0):
            transport.abort()
        else:
            self._await_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        has_come = self.cycle is not None and not self.cycle.more_body
        if has_come and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._timer is None:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._stop_waiting()
        super().on_response_complete()

    def _await_request(self) -> None:
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Application(Protocol):
    """What is served."""

    asgi: ASGIApp

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve, and do what has to be done meanwhile."""

    def close(self) -> None:
        """End streams that are open; from another thread."""


class Server:
    """Serves an application from a thread of its own.

    Parameters
    ----------
    http
        Where to listen. If the default port is taken, any free one is, so that several processes
        can run on one machine.
    app
        What is served.
    path
        Where a unix socket is to be instead; whoever may enter its folder may connect.

    Raises
    ------
    SettingsError
        The port that was asked for is taken.
    """

    def __init__(self, http: HttpSettings, app: Application, path: Path | None = None) -> None:
        self._app = app
        self._socket = _listen(http) if path is None else None
        self._server: uvicorn.Server | None = None
        if self._socket is None and path is None:
            return
        protocol: Any = _Protocol
        self._server = uvicorn.Server(
            uvicorn.Config(
                app.asgi,
                uds=None if path is None else str(path),
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                # What a client does wrong is answered, not logged.
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=http.max_connections,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_keep_alive=int(REQUEST_TIMEOUT_S),
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = Thread(target=self._serve, args=(self._server,), name="http", daemon=True)

    @property
    def port(self) -> int | None:
        """The port listened on, if any."""
        return int(self._socket.getsockname()[1]) if self._socket else None

    def _serve(self, server: uvicorn.Server) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            listeners = None if self._socket is None else [self._socket]
            runner.run(self._app.run_with(server.serve(listeners)))

    def __enter__(self) -> Self:
        if self._server:
            self._thread.start()
            deadline_s = time.monotonic() + START_TIMEOUT_S
            while not self._server.started and time.monotonic() < deadline_s:
                time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._app.close()
            self._server.should_exit = True
            self._thread.join(START_TIMEOUT_S)


def _listen(http: HttpSettings) -> socket.socket | None:
    if http.port == 0:
        return None
    family = socket.AF_INET6 if ":" in http.address else socket.AF_INET
    try:
        return socket.create_server((http.address, http.port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or "port" in http.model_fields_set:
            reason = error.strerror or str(error)
            raise SettingsError(f"http.port {http.port} on {http.address}: {reason}") from None
    listener = socket.create_server((http.address, 0), family=family, backlog=BACKLOG)
    host = f"[{http.address}]" if family is socket.AF_INET6 else http.address
    logger.info(
        "port %d is taken, another one is used",
        http.port,
        extra={"address": f"http://{host}:{listener.getsockname()[1]}"},
    )
    return listener
