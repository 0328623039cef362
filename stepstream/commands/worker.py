"""A worker's process: ``stepstream run --workers N`` starts it, and nobody else."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import NoReturn

from stepstream.commands.consuming import consume
from stepstream.errors import StepstreamError
from stepstream.logs import configure_logging, log_everything
from stepstream.workers.lifeline import Lifeline
from stepstream.workers.reports import receive_order

__all__ = ["main"]

logger = logging.getLogger("stepstream.commands.run")

MARGIN_S = 5.0
"""Time to close everything, beyond that for the last commit."""


def main(channel: socket.socket) -> int:
    """Consume as the parent at the other end of the channel orders; returns the exit code."""
    order = receive_order(channel)
    settings = order.settings
    configure_logging(settings.logging, settings.hide_secrets, worker=order.number)
    timeout_s = settings.processing.shutdown_timeout_s + MARGIN_S
    with Lifeline(channel, timeout_s) as lifeline:
        try:
            return consume(settings, lifeline, order.socket_path)
        except StepstreamError as error:
            logger.error("%s", error)  # noqa: TRY400 - its place says nothing
            lifeline.report_end(error)
            return error.exit_code


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
