"""Calls that other threads hand to the loop's thread."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Calls"]

MAX_WAITING = 32
"""Most calls that may wait for the end of a turn."""
T = TypeVar("T")


class Calls:
    """A bounded queue of calls; any thread may add to it, the loop's thread makes them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Let the loop make a call between two polls; any thread may ask for it.

        Raises
        ------
        OverflowError
            Too many calls wait.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise OverflowError("too many calls wait for the loop")
        future: Future[T] = Future()
        self._waiting.append((future, call))
        return future

    def make_all(self) -> None:
        """Make all calls that wait; only the loop's thread does it."""
        while self._waiting:
            future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001 - raised where the result is asked for
                    future.set_exception(error)
