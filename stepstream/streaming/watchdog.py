"""Logs where a loop is stuck."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Watchdog"]

logger = logging.getLogger(__name__)


class Watchdog:
    """Logs the stacks of all threads, once each time that the loop gets stuck.

    Parameters
    ----------
    is_live
        Asked repeatedly, from a thread of its own.
    interval_s
        How often.
    """

    def __init__(self, is_live: Callable[[], bool], interval_s: float) -> None:
        self._is_live = is_live
        self._interval_s = interval_s
        self._closing = Event()
        self._thread = Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        was_live = True
        while not self._closing.wait(self._interval_s):
            is_live = self._is_live()
            if was_live and not is_live:
                logger.error("the loop is stuck; all threads:\n%s", _stacks())
            elif is_live and not was_live:
                logger.warning("the loop turns again")
            was_live = is_live


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(number, number)}:\n{''.join(traceback.format_stack(frame))}"
        for number, frame in sys._current_frames().items()  # noqa: SLF001 - its public name
    )
