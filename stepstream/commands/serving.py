"""Steps over HTTP from this process, until a signal stops it."""

from __future__ import annotations

import logging
import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stepstream.commands.memory import spare_the_garbage_collector
from stepstream.logs import switch_on_signal
from stepstream.native import decoder_name
from stepstream.otlp.pusher import Pusher, describe_process
from stepstream.web.scraping import MetricsApp
from stepstream.web.server import Server
from stepstream.web.serving import ServeApp
from stepstream.workers.reports import Report

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from stepstream.settings import ServeSettings
    from stepstream.workers.lifeline import Lifeline

__all__ = ["run", "serve"]

logger = logging.getLogger("stepstream.commands.serve")

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
FAREWELL_S = 1.0
"""Time in which each answer closes its connection, so that no client writes to a closed one."""
STOP_TIMEOUT_S = 12
"""Longer than a request may take."""


def run(settings: ServeSettings) -> int:
    """Serve from this process alone; returns its exit code."""
    return serve(settings)


def serve(
    settings: ServeSettings,
    lifeline: Lifeline | None = None,
    listener: socket.socket | None = None,
    paths: tuple[Path, Path] | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Parameters
    ----------
    settings
        All settings.
    lifeline
        Connects a worker to its parent.
    listener
        A socket that listens already, which workers share.
    paths
        A worker's: where its parent asks it for its metrics, and where it asks its parent for those
        of all.

    Raises
    ------
    StepstreamError
        The model can't be used, or the port is taken.
    """
    # Blocked, they wait to be fetched, in every thread.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    switch_on_signal(settings.logging)
    app = ServeApp(settings, None if paths is None else paths[1])
    spare_the_garbage_collector()
    with ExitStack() as servers:
        server = servers.enter_context(
            Server(settings.http, app, listener=listener, stop_timeout_s=STOP_TIMEOUT_S)
        )
        if paths is not None:
            servers.enter_context(Server(settings.http, MetricsApp(app.render), paths[0]))
        process = describe_process(server.port)
        servers.enter_context(Pusher(settings.otlp, server.render, app.push_failures, process))
        if lifeline is not None:
            lifeline.connect(
                lambda: Report(app.health.is_live, app.health.obstacles),
                lambda: os.kill(os.getpid(), signal.SIGTERM),
            )
        started = {"model": app.model.metadata.label, "decoder": decoder_name()}
        logger.info("started", extra={"port": server.port, **started})
        while signal.sigwait(SIGNALS) == signal.SIGHUP:
            logger.info("SIGHUP changes nothing here; restart for another model")
        app.health.leave()
        time.sleep(FAREWELL_S)
    logger.info("stopped")
    return 0
