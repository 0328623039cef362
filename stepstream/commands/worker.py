"""A worker's process: ``--workers N`` of ``run`` or ``serve`` starts it, and nobody else."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, NoReturn

from stepstream.errors import StepstreamError
from stepstream.logs import configure_logging, log_everything
from stepstream.settings import Settings
from stepstream.workers.lifeline import Lifeline
from stepstream.workers.reports import receive_order

if TYPE_CHECKING:
    from stepstream.workers.reports import Order

__all__ = ["main"]

logger = logging.getLogger("stepstream.commands.run")

MARGIN_S = 5.0
"""Time to close everything, beyond that for the last commit."""


def main(channel: socket.socket) -> int:
    """Work as the parent at the other end of the channel orders; returns the exit code."""
    order = receive_order(channel)
    settings = order.settings
    configure_logging(settings.logging, settings.hide_secrets, worker=order.number)
    timeout_s = settings.processing.shutdown_timeout_s + MARGIN_S
    with Lifeline(channel, timeout_s) as lifeline:
        try:
            return _work(order, lifeline)
        except StepstreamError as error:
            logger.error("%s", error)  # noqa: TRY400 - its place says nothing
            lifeline.report_end(error)
            return error.exit_code


def _work(order: Order, lifeline: Lifeline) -> int:
    """Consume, or serve; only one of them is imported."""
    settings = order.settings
    if isinstance(settings, Settings):
        from stepstream.commands.consuming import consume  # noqa: PLC0415

        return consume(settings, lifeline, order.socket_path)
    from stepstream.commands.serving import serve  # noqa: PLC0415

    listener = socket.socket(fileno=order.listener)
    paths = None
    if order.socket_path is not None and order.parent_path is not None:
        paths = order.socket_path, order.parent_path
    return serve(settings, lifeline, listener, paths)


def _program() -> NoReturn:
    log_everything()
    # As in `stepstream.cli.program`: native threads are left alone.
    try:
        code = main(socket.socket(fileno=sys.stdin.fileno()))
    except Exception:
        logger.exception("worker failed")
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _program()
