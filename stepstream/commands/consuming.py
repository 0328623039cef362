"""One consumer in this process, until a signal stops it."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING, NoReturn

from stepstream.commands.memory import spare_the_garbage_collector
from stepstream.errors import StreamError
from stepstream.logs import switch_on_signal
from stepstream.native import decoder_name
from stepstream.otlp.pusher import Pusher, describe_process
from stepstream.streaming.consumer import Consumer
from stepstream.web.app import make_app
from stepstream.web.server import Server
from stepstream.workers.names import claim, name_process
from stepstream.workers.reports import Report

if TYPE_CHECKING:
    from pathlib import Path

    from stepstream.settings import Settings
    from stepstream.workers.lifeline import Lifeline

__all__ = ["consume", "run"]

logger = logging.getLogger("stepstream.commands.run")

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def run(settings: Settings) -> int:
    """Run the only consumer of this command; returns its exit code."""
    if settings.kafka.transactional_id is None:
        claims = claim(settings.kafka.group_id, 1)
        if claims:
            settings = name_process(settings, claims[0].number)
        else:
            logger.info("no folder for locks: this machine may have one process of the group")
    return consume(settings)


def consume(
    settings: Settings, lifeline: Lifeline | None = None, socket_path: Path | None = None
) -> int:
    """Consume until SIGTERM or SIGINT; returns the exit code.

    Parameters
    ----------
    settings
        All settings; the transactional id is this process's own.
    lifeline
        Connects a worker to its parent.
    socket_path
        Where to serve HTTP instead of the address in the settings.

    Raises
    ------
    StepstreamError
        The consumer can't start or go on.
    """
    switch_on_signal(settings.logging)
    consumer = Consumer(settings)

    def stop(*_: object) -> None:
        consumer.stop()
        if not consumer.has_joined:
            # It has nothing to commit, the group doesn't know it, and a broker may let it wait.
            logger.info("stopped before it joined the group")
            _leave(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda *_: consumer.reload_model())
    # A worker begins with them blocked, so that none comes before there is a consumer to stop.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if lifeline is not None:
        lifeline.connect(lambda: _report(consumer), consumer.stop)
    logger.info(
        "started",
        extra={
            "topics": ",".join(settings.topics.readings),
            "group": settings.kafka.group_id,
            "transactional_id": settings.kafka.effective_transactional_id(),
            "guarantee": settings.processing.guarantee,
            "model": consumer.model.metadata.label,
            "decoder": decoder_name(),
        },
    )
    spare_the_garbage_collector()
    try:
        app = make_app(settings, consumer)
        server = Server(settings.http, app, socket_path)
        process = describe_process(server.port, settings.kafka.group_id)
        with server, Pusher(settings.otlp, server.render, app.push_failures, process):
            consumer.run()
    except StreamError as error:
        if consumer.has_open_calls:
            logger.error("%s", error)  # noqa: TRY400 - its place says nothing
            if lifeline is not None:
                lifeline.report_end(error)
            _leave(error.exit_code)
        raise
    logger.info("stopped")
    if consumer.has_open_calls:
        _leave(0)
    return 0


def _report(consumer: Consumer) -> Report:
    health = consumer.health
    return Report(health.is_live, health.obstacles)


def _leave(exit_code: int) -> NoReturn:
    """End without waiting for threads that may never come back from the Kafka client."""
    logging.shutdown()
    os._exit(exit_code)
