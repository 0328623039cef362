"""A worker's end of the channel to its parent: it reports how it is, and notices its end."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import msgspec

from stepstream.workers.reports import Report

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["Lifeline"]

logger = logging.getLogger(__name__)

REPORT_INTERVAL_S = 0.25
MAX_TEXT = 2_000
"""Characters of one obstacle or error, and at most 20 of them: a report has to be one packet."""

_encode = msgspec.json.Encoder().encode


def _starting() -> Report:
    return Report(is_live=True, obstacles=["it is starting"])


class Lifeline:
    """Reports to the parent from a thread of its own, and ends this process after the parent's end.

    Parameters
    ----------
    channel
        The socket to the parent.
    end_timeout_s
        Time to stop once the parent has ended; then the process ends without.
    """

    def __init__(self, channel: socket.socket, end_timeout_s: float) -> None:
        self._channel = channel
        self._channel.settimeout(REPORT_INTERVAL_S)
        self._end_timeout_s = end_timeout_s
        self._read: Callable[[], Report] = _starting
        self._stop: Callable[[], None] | None = None
        self._closing = Event()
        self._thread = Thread(target=self._hold, name="parent", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()

    def connect(self, read: Callable[[], Report], stop: Callable[[], None]) -> None:
        """Say how to read this worker's state and how to stop it; both from another thread."""
        self._read, self._stop = read, stop

    def report(self, report: Report) -> None:
        """Send a report; it is lost if the parent doesn't read, or has ended."""
        obstacles = [text[:MAX_TEXT] for text in report.obstacles[:20]]
        packet = _encode(Report(report.is_live, obstacles, report.error[:MAX_TEXT]))
        with suppress(OSError):
            self._channel.send(packet)

    def report_end(self, error: Exception) -> None:
        """Tell the parent why this process ends by itself."""
        self.report(Report(is_live=False, obstacles=[str(error)], error=str(error)))

    def _hold(self) -> None:
        while not self._closing.is_set():
            self.report(self._read())
            try:
                is_open = bool(self._channel.recv(1))
            except TimeoutError:
                continue
            except OSError:
                is_open = False
            if not is_open:
                self._end()
                return

    def _end(self) -> None:
        """Stop as after a signal, but not for ever: nobody else sees to it."""
        if self._stop is not None:
            logger.error("the parent has ended, this worker stops")
            self._stop()
            self._closing.wait(self._end_timeout_s)
        if not self._closing.is_set():
            logging.shutdown()
            os._exit(1)
