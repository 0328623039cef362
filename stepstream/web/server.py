"""The server: one thread beside the loop that answers probes, scrapers, browsers and programs."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from threading import Thread
from typing import TYPE_CHECKING, Any, Self

import uvicorn
import uvloop
from uvicorn.protocols.http.h11_impl import H11Protocol

from stepstream.errors import SettingsError
from stepstream.web.app import make_app

if TYPE_CHECKING:
    from stepstream.settings import HttpSettings, Settings
    from stepstream.streaming.consumer import Consumer

__all__ = ["Server"]

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


class Server:
    """Serves a consumer's health, metrics, page and API from a thread of its own.

    Parameters
    ----------
    settings
        Where to listen, and what `/v1/detect` computes with.
    consumer
        Whose.
    any_port
        Take any free port where the default one is taken.

    Raises
    ------
    SettingsError
        The port that was asked for is taken. If only the default port is, a warning is logged
        and nothing is served, so that several consumers can run on one machine.
    """

    def __init__(self, settings: Settings, consumer: Consumer, *, any_port: bool = False) -> None:
        self._socket = _listen(settings.http, any_port=any_port)
        self._server: uvicorn.Server | None = None
        if self._socket is None:
            return
        self._app = make_app(settings, consumer)
        http: Any = _Protocol
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app.asgi,
                http=http,
                ws="none",
                lifespan="off",
                log_config=None,
                # What a client does wrong is answered, not logged.
                log_level="error",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=settings.http.max_connections,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_keep_alive=int(REQUEST_TIMEOUT_S),
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = Thread(target=self._serve, name="http", daemon=True)

    @property
    def port(self) -> int | None:
        """The port listened on, if any."""
        return int(self._socket.getsockname()[1]) if self._socket else None

    def _serve(self) -> None:
        server, listener = self._server, self._socket
        if server is None or listener is None:
            raise RuntimeError("there is no port to serve on")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._app.run_with(server.serve([listener])))

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


def _listen(http: HttpSettings, *, any_port: bool) -> socket.socket | None:
    if http.port == 0:
        return None
    family = socket.AF_INET6 if ":" in http.address else socket.AF_INET
    try:
        return socket.create_server((http.address, http.port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or "port" in http.model_fields_set:
            reason = error.strerror or str(error)
            raise SettingsError(f"http.port {http.port} on {http.address}: {reason}") from None
    if any_port:
        return socket.create_server((http.address, 0), family=family, backlog=BACKLOG)
    logger.warning("port is taken, nothing is served", extra={"port": http.port})
    return None
