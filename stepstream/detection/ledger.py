"""The ledger: how many steps each device has made, and which of them are already counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Entry", "Ledger"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of a device's counted steps.

    Attributes
    ----------
    step_count
        Steps counted.
    end_us
        End of the last of them, microseconds since the epoch.
    offset
        Input offset of the message that completed it.
    """

    step_count: int
    end_us: int
    offset: int


class Ledger:
    """Counts the steps of the devices of one input partition, each once.

    Parameters
    ----------
    refractory_us
        Least time between the ends of two steps of a device.
    max_lateness_us
        A step that ends further before the last one was made after the device's clock was set
        back.
    """

    def __init__(self, refractory_us: int, max_lateness_us: int) -> None:
        self._refractory_us = refractory_us
        self._max_lateness_us = max_lateness_us
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, device_id: str) -> Entry | None:
        """The device's entry, if any step of it was counted."""
        return self._entries.get(device_id)

    def count(self, device_id: str, offset: int, ends_us: Sequence[int]) -> list[int | None]:
        """Count the steps that one message completed.

        Parameters
        ----------
        device_id
            The device.
        offset
            The message's offset; nothing is counted at or below that of the last counted step.
        ends_us
            Ends of the steps, in the order in which they were found.

        Returns
        -------
        list of int or None
            For each step, the device's step count with it, or None if it isn't counted.
        """
        entry = self._entries.get(device_id)
        if entry is not None and offset <= entry.offset:
            return [None] * len(ends_us)
        counts: list[int | None] = []
        for end_us in ends_us:
            if entry is None:
                entry = Entry(1, end_us, offset)
            elif self._is_new(end_us - entry.end_us):
                entry = Entry(entry.step_count + 1, end_us, offset)
            else:
                counts.append(None)
                continue
            counts.append(entry.step_count)
        if entry is not None:
            self._entries[device_id] = entry
        return counts

    def _is_new(self, later_us: int) -> bool:
        return later_us >= self._refractory_us or later_us < -self._max_lateness_us
