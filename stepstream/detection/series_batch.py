"""Many devices' readings from beginning to end, judged together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import Readings, SplitReadings, Steps, first_rows
from stepstream.detection.rules import Rules
from stepstream.detection.steps import make_step_detector

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.model import Model
    from stepstream.detection.series import Series

__all__ = ["SeriesBatch"]

TURN_SIGNAL_US = 2_000_000
"""Signal of a series in one turn: its hops are predicted one after the other."""
TURN_READINGS = 16_384
"""Readings of a turn, shared by the series; a series has `LEAST_READINGS` in any case."""
LEAST_READINGS = 128
HOPS_AHEAD = 32
"""A turn's signal fits into the detector's rings."""


@dataclass(slots=True)
class _Open:
    """A series of which something is left; `signal_us` (n,) is its length up to each reading."""

    series: Series
    signal_us: NDArray[np.int64]
    begin: int = 0
    found: list[Steps] = field(default_factory=list)

    def take(self, most: int) -> slice:
        """The readings of the next turn."""
        end_us = self.signal_us[self.begin] + TURN_SIGNAL_US
        end = int(np.searchsorted(self.signal_us, end_us, "right"))
        rows = slice(self.begin, min(end, self.begin + most))
        self.begin = rows.stop
        return rows

    @property
    def is_over(self) -> bool:
        return self.begin >= len(self.series)


class SeriesBatch:
    """Finds the steps of several series, a part of each in a turn.

    What is found in a series is what `detect_series` finds: it doesn't depend on the others, nor on
    when they come. A turn has a bound, so a long series doesn't hold the short ones up.

    Parameters
    ----------
    model
        The network.
    rules
        When readings belong together.
    """

    def __init__(
        self,
        model: Model,
        rules: Rules = Rules(),  # noqa: B008 - immutable
    ) -> None:
        self._detector = make_step_detector(model, rules, hops_ahead=HOPS_AHEAD)
        self._max_gap_us = rules.max_gap_us
        self._open: dict[int, _Open] = {}

    def __len__(self) -> int:
        """How many series are open."""
        return len(self._open)

    def add(self, series: Series) -> int:
        """Open a series, which has one reading at least; its number."""
        # Gaps are no signal, nor is time that goes back.
        apart_us = np.diff(series.time_us, prepend=series.time_us[:1])
        apart_us[(apart_us < 0) | (apart_us > self._max_gap_us)] = 0
        slot = self._detector.add_device()
        self._open[slot] = _Open(series, np.cumsum(apart_us))
        return slot

    def drop(self, number: int) -> None:
        """Close a series before its end."""
        del self._open[number]
        self._detector.remove_devices(np.array([number], np.intp))

    def turn(self) -> list[tuple[int, Steps]]:
        """Judge the next part of each series.

        Returns
        -------
        list
            The series that have come to their end, which are closed: number and steps.
        """
        most = max(LEAST_READINGS, TURN_READINGS // max(1, len(self._open)))
        plain, split = [Readings.none()], []
        for slot, one in self._open.items():
            readings = one.series.readings(slot, one.take(most))
            if isinstance(readings, SplitReadings):
                split.append(readings)
            else:
                plain.append(readings)
        fed = Readings.concatenate(plain)
        steps = self._detector.feed(fed, SplitReadings.concatenate(split) if split else None)
        heads = first_rows(steps.slot)
        for begin, end in zip(heads, np.append(heads, len(steps))[1:], strict=True):
            self._open[int(steps.slot[begin])].found.append(steps.take(slice(begin, end)))
        over = [slot for slot, one in self._open.items() if one.is_over]
        self._detector.remove_devices(np.array(over, np.intp))
        return [(slot, _close(self._open.pop(slot))) for slot in over]


def _close(one: _Open) -> Steps:
    return one.series.place(Steps.concatenate(one.found or [Steps.none()]))
