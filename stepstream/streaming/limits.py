"""When too many of a partition's messages are dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["DeadLetterLimit"]


class DeadLetterLimit:
    """Watches the dead letters among one partition's messages.

    Parameters
    ----------
    window
        The last messages that count for the share; it isn't checked before there are as many.
    share
        Dead letters among them, from 0 to 1, that are too many.
    streak
        Dead letters without a valid message between them that are too many.
    """

    def __init__(self, window: int, share: float, streak: int) -> None:
        self._window = window
        self._share = share
        self._most_in_a_row = streak
        self._recent = np.empty(0, np.bool_)
        self._streak = 0
        self._count = 0
        self.is_warned = False
        """Whether the log has a warning about it already."""

    def note(self, messages: int, rejected: Iterable[int]) -> None:
        """Note how many messages there were, and the indices of those that are dead letters."""
        letters = np.zeros(messages, np.bool_)
        letters[list(rejected)] = True
        good = np.flatnonzero(~letters)
        self._streak = messages - 1 - int(good[-1]) if len(good) else self._streak + messages
        if self._count or letters.any() or len(self._recent) < self._window:
            self._recent = np.concatenate([self._recent, letters])[-self._window :]
            self._count = int(np.count_nonzero(self._recent))

    @property
    def exceeded(self) -> str:
        """A sentence about the limit that is exceeded; empty if none is."""
        if self._streak >= self._most_in_a_row:
            return f"the last {self._streak} messages are dead letters"
        if len(self._recent) == self._window and self._count >= self._share * self._window:
            return f"{self._count} of the last {self._window} messages are dead letters"
        return ""
