"""Calls that other threads have made in the loop's thread."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Calls"]

MAX_WAITING = 32
"""Calls that may wait for the end of a turn."""
T = TypeVar("T")


class Calls:
    """A bounded queue of calls; any thread may add to it, the loop's thread makes them."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have a call made between two polls; from any thread.

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
        """Make all calls that wait; in the loop's thread."""
        while self._waiting:
            future, call = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001 - raised where the result is asked for
                    future.set_exception(error)
