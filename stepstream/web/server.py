"""The server: one thread beside the loop that answers probes, scrapers, browsers and programs."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol, Self

import uvicorn
import uvloop

from stepstream.errors import SettingsError
from stepstream.web.encryption import Certificate, EncryptedProtocol
from stepstream.web.protocol import MAX_HEADER_BYTES, REQUEST_TIMEOUT_S, BoundedProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from starlette.types import ASGIApp

    from stepstream.settings import HttpSettings
    from stepstream.web.traffic import Traffic

__all__ = ["Application", "Server", "listen"]

logger = logging.getLogger(__name__)

BACKLOG = 128
SEND_BUFFER_BYTES = 128 << 10
RECEIVE_BUFFER_BYTES = 256 << 10
UNREAD_TIMEOUT_S = 20.0
"""After this time without a sign of the peer that it takes data, the kernel ends a connection."""
LOG_INTERVAL_S = 60.0
START_TIMEOUT_S = 10.0


class _Sparing(logging.Filter):
    """Lets an error of the server through once a minute, with the number of those left out."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            self._left_out += 1
            return False
        self._next_s = now_s + LOG_INTERVAL_S
        record.__dict__["left_out"], self._left_out = self._left_out, 0
        return True


_sparing = _Sparing()


class Application(Protocol):
    """What is served."""

    @property
    def asgi(self) -> ASGIApp:
        """Answers requests."""

    @property
    def traffic(self) -> Traffic:
        """Counts them."""

    async def render(self, encode: Callable[[Any], bytes]) -> bytes:
        """The metrics, as an encoder of prometheus-client writes them."""

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        """Serve, and do what has to be done meanwhile."""

    def close(self) -> None:
        """End streams that are open; from another thread."""


class Server:
    """Serves an application from a thread of its own.

    Parameters
    ----------
    http
        Where to listen, and with which certificate. If the default port is taken, any free one is,
        so that several processes can run on one machine.
    app
        What is served.
    path
        Where a unix socket is to be instead, without TLS; whoever may enter its folder may connect.
    listener
        A socket that listens already, for several processes that share it.
    stop_timeout_s
        Time for requests to be answered that are there when it stops.

    Raises
    ------
    SettingsError
        The port that was asked for is taken, or the certificate can't be used.
    """

    def __init__(
        self,
        http: HttpSettings,
        app: Application,
        path: Path | None = None,
        *,
        listener: socket.socket | None = None,
        stop_timeout_s: int = 1,
    ) -> None:
        self._app = app
        self._stop_timeout_s = stop_timeout_s
        certificate = Certificate.of(http) if path is None else None
        self._socket = listener
        if path is None and listener is None:
            self._socket = listen(http)
        self._server: uvicorn.Server | None = None
        if self._socket is None and path is None:
            return
        protocol: Any = partial(BoundedProtocol, app.traffic, http.max_connections)
        if certificate is not None:
            protocol = partial(EncryptedProtocol, certificate, app.traffic, http.max_connections)
        logging.getLogger("uvicorn.error").addFilter(_sparing)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app.asgi,
                interface="asgi3",
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
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                # The protocol's own time ends first.
                timeout_keep_alive=2 * int(REQUEST_TIMEOUT_S),
                timeout_graceful_shutdown=stop_timeout_s,
            )
        )
        self._thread = Thread(target=self._serve, args=(self._server,), name="http", daemon=True)

    @property
    def port(self) -> int | None:
        """The port listened on, if any."""
        return int(self._socket.getsockname()[1]) if self._socket else None

    async def render(self, encode: Callable[[Any], bytes]) -> bytes:
        """The metrics of the application, as an encoder writes them; for another event loop."""
        rendered = asyncio.run_coroutine_threadsafe(self._app.render(encode), self._loop)
        return await asyncio.wrap_future(rendered)

    def _serve(self, server: uvicorn.Server) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self._loop = runner.get_loop()
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
            self._thread.join(START_TIMEOUT_S + self._stop_timeout_s)


def listen(http: HttpSettings) -> socket.socket | None:
    """A socket that listens as the settings say; None if they want no server.

    Raises
    ------
    SettingsError
        The port that was asked for is taken.
    """
    listener = _bind(http)
    if listener is not None:
        # Connections inherit these. Otherwise buffers grow to megabytes, for readers that are slow.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            timeout_ms = int(UNREAD_TIMEOUT_S * 1e3)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    return listener


def _bind(http: HttpSettings) -> socket.socket | None:
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
        extra={"address": f"{http.scheme}://{host}:{listener.getsockname()[1]}"},
    )
    return listener
