"""The clock and the threads of the process, so that a test can bring its own."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from stepstream.streaming.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

__all__ = ["Event", "Executor", "System"]

T = TypeVar("T")


class Executor(Protocol):
    """Runs calls in a thread of its own, one after the other."""

    def submit(self, call: Callable[..., T], /, *arguments: Any) -> Future[T]:
        """Make a call in that thread; the future has its outcome."""

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Accept no more calls."""


class Event(Protocol):
    """As `threading.Event`."""

    def set(self) -> None:
        """Set the event; threads that wait for it continue."""

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, but not longer than the timeout; whether it is set."""


class System:
    """The real clock and real threads."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""
        return time.monotonic()

    def now_us(self) -> int:
        """Microseconds since the epoch."""
        return time.time_ns() // 1000

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def executor(self, name: str) -> Executor:
        """A thread that makes calls."""
        return ThreadPoolExecutor(1, name)

    def event(self) -> Event:
        """An event that isn't set."""
        return threading.Event()

    def watchdog(
        self, is_live: Callable[[], bool], interval_s: float
    ) -> AbstractContextManager[object]:
        """Say where the loop is stuck, if it gets stuck."""
        return Watchdog(is_live, interval_s)
