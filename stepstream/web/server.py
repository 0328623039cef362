"""A small server for probes and scrapers."""

from __future__ import annotations

import errno
import logging
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Self

from prometheus_client.exposition import choose_encoder

from stepstream.errors import SettingsError
from stepstream.metrics import make_registry

if TYPE_CHECKING:
    from stepstream.settings import HttpSettings
    from stepstream.streaming.consumer import Consumer

__all__ = ["Server"]

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], consumer: Consumer) -> None:
        self.consumer = consumer
        self.registry = make_registry(consumer)
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _HTTPServer
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        consumer = self.server.consumer
        if self.path == "/livez":
            self._answer_check("live", holds=consumer.is_live)
        elif self.path == "/readyz":
            self._answer_check("ready", holds=consumer.is_ready)
        elif self.path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, encode(self.server.registry), content_type)
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"not found\n")

    def _answer_check(self, state: str, *, holds: bool) -> None:
        status = HTTPStatus.OK if holds else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, f"{state}\n".encode() if holds else f"not {state}\n".encode())

    def _answer(self, status: int, body: bytes, content_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
        logger.debug(format, *args)


class Server:
    """Serves ``/livez``, ``/readyz`` and ``/metrics`` from a thread of its own.

    Parameters
    ----------
    settings
        Where to listen.
    consumer
        Whose health and metrics.

    Raises
    ------
    SettingsError
        The port that was asked for is taken. If only the default port is, a warning is logged
        and nothing is served, so that several consumers can run on one machine.
    """

    def __init__(self, settings: HttpSettings, consumer: Consumer) -> None:
        self._server: _HTTPServer | None = None
        if settings.port == 0:
            return
        try:
            self._server = _HTTPServer((settings.address, settings.port), consumer)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or "port" in settings.model_fields_set:
                raise SettingsError(
                    f"http.port {settings.port} on {settings.address}: {error.strerror}"
                ) from None
            logger.warning("port is taken, nothing is served", extra={"port": settings.port})

    @property
    def port(self) -> int | None:
        """The port listened on, if any."""
        return self._server.server_address[1] if self._server else None

    def __enter__(self) -> Self:
        if self._server:
            Thread(target=self._server.serve_forever, name="http", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()
