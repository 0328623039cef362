"""The parent of workers that share a port: it starts, watches and stops them."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING, Any

from stepstream.commands.supervising import SIGNALS, conclude, supervise
from stepstream.errors import SettingsError
from stepstream.logs import LevelSwitch
from stepstream.otlp.failures import PushFailures
from stepstream.otlp.pusher import Pusher, describe_process
from stepstream.settings import OtlpSettings
from stepstream.web.scraping import MetricsApp
from stepstream.web.server import Server, listen
from stepstream.web.workers.clients import Client
from stepstream.web.workers.metrics import render
from stepstream.workers.names import claim
from stepstream.workers.processes import WorkerProcess
from stepstream.workers.reports import Order
from stepstream.workers.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from stepstream.settings import ServeSettings

__all__ = ["run"]

logger = logging.getLogger("stepstream.commands.serve")

NAME = "stepstream serve"
"""Whose numbers they are on this machine; consumer groups have others."""
STUCK_AFTER_S = 10.0
"""A worker that says nothing for this time is killed."""
STOP_TIMEOUT_S = 20.0
"""Longer than a worker takes to answer what it has, and to close."""


def run(settings: ServeSettings) -> int:
    """Run workers until SIGTERM or SIGINT; returns the exit code.

    Raises
    ------
    StepstreamError
        The port is taken, or no worker could be kept running.
    """
    # Blocked, they wait to be fetched: in threads and workers too, which are made with this mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    claims = claim(NAME, settings.workers + 1)
    if not claims:
        raise SettingsError(
            "workers need a folder that can be written to; set XDG_RUNTIME_DIR to one"
        )
    *workers, own = claims
    listener = listen(settings.http)
    if listener is None:
        raise SettingsError("http.port is 0: nothing would be served")
    with listener:
        # The parent pushes the metrics of all.
        theirs = settings.model_copy(update={"otlp": OtlpSettings()})
        orders = [
            Order(number, theirs, held.socket_path, listener.fileno(), own.socket_path)
            for number, held in enumerate(workers)
        ]
        supervisor = Supervisor(
            lambda number: WorkerProcess(orders[number], workers[number].lock),
            len(orders),
            STUCK_AFTER_S,
            STOP_TIMEOUT_S,
            time.monotonic,
        )
        clients = [Client(number, held.socket_path) for number, held in enumerate(workers)]
        app = _Metrics(clients, supervisor)
        port = listener.getsockname()[1]
        logger.info("started", extra={"workers": settings.workers, "port": port})
        server = Server(settings.http, app, own.socket_path)
        pusher = Pusher(settings.otlp, server.render, app.push_failures, describe_process(port))

        def stop() -> None:
            # Otherwise connections would wait here that nobody takes any more.
            listener.close()
            pusher.stop()

        with server, pusher:
            supervise(supervisor, LevelSwitch(settings.logging), logger, on_stop=stop)
    return conclude(supervisor, logger)


class _Metrics(MetricsApp):
    """The metrics of all workers, for the one that is asked for them."""

    def __init__(self, clients: Sequence[Client], supervisor: Supervisor) -> None:
        self.push_failures = PushFailures()
        own = (self.push_failures,)
        super().__init__(lambda encode: render(encode, clients, supervisor, own))
        self._clients = clients

    async def run_with(self, serving: Coroutine[Any, Any, None]) -> None:
        try:
            await serving
        finally:
            await asyncio.gather(*(one.close() for one in self._clients), return_exceptions=True)
