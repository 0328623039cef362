"""Ranges: which messages of a partition are read."""

from __future__ import annotations

import msgspec

__all__ = ["NOTHING", "NO_END", "UNBOUNDED", "Range"]

NO_END = (1 << 63) - 1
"""End of a range that has none: a higher offset than any message has."""


class Range(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which messages of a partition are read, and what came of those that are committed.

    Attributes
    ----------
    begin, end
        Offset of the first message, and the one behind the last. `run` reads without an end.
    begin_ms
        Messages from ``begin`` on have this record time or a later one, milliseconds since the
        epoch; 0 if the range begins with its partition.
    readings, dead_letters
        Valid readings and invalid messages in the range so far.
    request
        The bounds as the command was given them.
    model
        Name and version of the model that is to find the steps.
    partitions
        Number of partitions that were given ranges together.
    end_ms
        The range ends at this record time, milliseconds since the epoch; 0 if its end was not given
        by time.
    steps
        Steps of the readings in the range so far.
    """

    begin: int = 0
    end: int = NO_END
    begin_ms: int = 0
    readings: int = 0
    dead_letters: int = 0
    request: str = ""
    model: str = ""
    partitions: int = 0
    end_ms: int = 0
    steps: int = 0

    @property
    def is_bounded(self) -> bool:
        """Whether it has an end."""
        return self.end != NO_END

    def with_results(self, readings: int, dead_letters: int, steps: int) -> Range:
        """The same range after further messages."""
        return msgspec.structs.replace(
            self,
            readings=self.readings + readings,
            dead_letters=self.dead_letters + dead_letters,
            steps=self.steps + steps,
        )

    def encode(self) -> str:
        """One word of text, a JSON object; empty if there is no end."""
        text = msgspec.json.encode(self).decode() if self.is_bounded else ""
        return text.replace(" ", "\\u0020")

    @classmethod
    def decode(cls, word: str) -> Range:
        """The range that a word stands for.

        Raises
        ------
        ValueError
            It stands for none.
        """
        return msgspec.json.decode(word, type=cls) if word else UNBOUNDED


UNBOUNDED = Range()
NOTHING = Range(end=0)
