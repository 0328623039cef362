"""The access log: a line for each request, within bounds."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

__all__ = ["MAX_LINES", "AccessLog"]

logger = logging.getLogger(__name__)

MAX_LINES = 100
"""Lines within a second; the first one after it has the number of those that were left out."""
MAX_PATH = 200


class AccessLog:
    """Logs requests when their answers end, streams too.

    A line has neither the query nor headers or bodies, which may hold secrets.

    Parameters
    ----------
    monotonic
        The clock, seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._until_s = 0.0
        self._lines = 0
        self._left_out = 0

    def note(self, scope: Scope, status: int, took_s: float) -> None:
        """Log a request, unless there were too many within this second."""
        now_s = self._monotonic()
        if now_s >= self._until_s:
            self._until_s, self._lines = now_s + 1.0, 0
        self._lines += 1
        if self._lines > MAX_LINES:
            self._left_out += 1
            return
        # As it was sent, percent-encoded: it can't break the line.
        path = scope["raw_path"][: MAX_PATH + 1].decode("ascii", "backslashreplace")
        extra = {
            "method": scope["method"],
            "path": path if len(path) <= MAX_PATH else f"{path[:MAX_PATH]}...",
            "status": status,
            "peer": scope["client"][0] if scope["client"] else "",
            "took_ms": round(took_s * 1e3, 1),
        }
        if self._left_out:
            extra["left_out"], self._left_out = self._left_out, 0
        logger.info("request", extra=extra)
