"""The parent of workers: it starts, watches and stops them, and serves HTTP for all."""

from __future__ import annotations

import logging
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from stepstream.errors import SettingsError, StreamError
from stepstream.logs import LevelSwitch
from stepstream.otlp.pusher import Pusher, describe_process
from stepstream.settings import HttpSettings, OtlpSettings
from stepstream.web.server import Server
from stepstream.web.workers.app import WorkersApp
from stepstream.workers.names import claim, name_process
from stepstream.workers.processes import WorkerProcess
from stepstream.workers.reports import Order
from stepstream.workers.supervisor import Supervisor

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from stepstream.settings import Settings
    from stepstream.workers.names import Claim

__all__ = ["SIGNALS", "conclude", "run", "supervise"]

logger = logging.getLogger("stepstream.commands.run")

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD}
TURN_S = 0.1
"""Time between two looks at the workers; the end of one is noticed at once."""
STOP_MARGIN_S = 5.0
"""Time to close everything, beyond that for the last commit."""


def run(
    settings: Settings,
    is_done: Callable[[], bool] = lambda: False,
    listener: socket.socket | None = None,
) -> int:
    """Run workers until SIGTERM or SIGINT; returns the exit code.

    Parameters
    ----------
    settings
        All settings.
    is_done
        Whether nothing is left to do for the workers; asked several times a second.
    listener
        A socket that listens already; otherwise one is made as the settings say.

    Raises
    ------
    StepstreamError
        No worker could be kept running, or they can't be served.
    """
    # Blocked, they wait to be fetched: in threads and workers too, which are made with this mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    for name in ("httpx", "httpcore"):
        # They tell of every request.
        logging.getLogger(name).setLevel(logging.WARNING)
    claims = claim(settings.kafka.group_id, settings.workers)
    if not claims:
        raise SettingsError(
            "workers need a folder that can be written to; set XDG_RUNTIME_DIR to one"
        )
    orders = [_order(settings, number, held) for number, held in enumerate(claims)]
    supervisor = Supervisor(
        lambda number: WorkerProcess(orders[number], claims[number].lock),
        len(orders),
        settings.processing.stuck_after_s,
        settings.processing.shutdown_timeout_s + STOP_MARGIN_S,
        time.monotonic,
    )
    paths = [order.socket_path for order in orders if order.socket_path is not None]
    group = settings.kafka.group_id
    with ExitStack() as serving:
        last_push = ExitStack()
        if paths:
            app = WorkersApp(settings, supervisor, paths)
            server = serving.enter_context(Server(settings.http, app, listener=listener))
            process = describe_process(server.port, group)
            pusher = Pusher(settings.otlp, server.render, app.push_failures, process)
            serving.enter_context(pusher)
            # While the workers still answer.
            last_push.callback(pusher.stop)
        logger.info("started", extra={"workers": settings.workers, "group": group})
        supervise(supervisor, LevelSwitch(settings.logging), logger, is_done, last_push.close)
    return conclude(supervisor, logger)


def _order(settings: Settings, number: int, held: Claim) -> Order:
    """What a worker is to do; a transactional id that is set gets the worker's number."""
    is_named = settings.kafka.transactional_id is not None
    named = name_process(settings, number if is_named else held.number)
    # The parent has seen to who may ask, before it asks a worker, and bounds its own connections.
    inner = named.http.model_copy(
        update={
            "token": None,
            "token_file": None,
            "tls_cert": None,
            "tls_key": None,
            "access_log": False,
            "cors_origins": (),
            "max_connections": HttpSettings().max_connections,
        }
    )
    quiet = {"http": inner, "otlp": OtlpSettings()}
    path = held.socket_path if inner.port else None
    return Order(number, named.model_copy(update=quiet), path)


def supervise(
    supervisor: Supervisor,
    level: LevelSwitch,
    log: logging.Logger,
    is_done: Callable[[], bool] = lambda: False,
    on_stop: Callable[[], None] = lambda: None,
) -> None:
    """Turn until all workers have ended, and pass on the signals that come meanwhile.

    Parameters
    ----------
    supervisor
        Of the workers.
    level
        The level of the log, here and in the workers.
    log
        The command's.
    is_done
        Whether nothing is left to do for the workers; asked several times a second.
    on_stop
        Called when they begin to stop, maybe more than once.
    """
    while not supervisor.is_over:
        supervisor.turn()
        if is_done():
            on_stop()
            supervisor.stop()
        come = signal.sigtimedwait(SIGNALS, TURN_S)
        number = None if come is None else come.si_signo
        if number in {signal.SIGTERM, signal.SIGINT}:
            log.info("workers are being stopped")
            on_stop()
            supervisor.stop()
        elif number == signal.SIGHUP:
            supervisor.signal(signal.SIGHUP)
        elif number == signal.SIGUSR1:
            level.flip()
            supervisor.signal(signal.SIGUSR1)
            supervisor.greet_with(signal.SIGUSR1 if level.is_on else None)


def conclude(supervisor: Supervisor, log: logging.Logger) -> int:
    """The exit code once all workers have ended.

    Raises
    ------
    StreamError
        All were given up.
    """
    given_up = supervisor.given_up
    if len(given_up) == len(supervisor.workers):
        raise StreamError(f"all workers were given up: {given_up[0].error}")
    log.info("stopped")
    return 1 if given_up else 0
