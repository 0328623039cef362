"""One device's readings from beginning to end: detection without a stream."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import (
    ACCELEROMETER,
    GYROSCOPE,
    Readings,
    SplitReadings,
    Steps,
)
from stepstream.detection.rules import Rules
from stepstream.detection.steps import make_step_detector

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stepstream.detection.detector import Observer
    from stepstream.detection.model import Model

__all__ = ["Series", "detect_series"]

CHUNK = 50_000
HOPS_AHEAD = 256


class Series:
    """One device's readings from beginning to end, as the detector takes them.

    There is no stream time, so nothing is idle. Readings of two sensors are taken in the order of
    their times, as if both had been delivered at once.

    Parameters
    ----------
    time_us : (n,) int64
        Times in microseconds since the epoch, or from wherever they count.
    axes : (n, 6) float32
        Acceleration in m/s^2, angular velocity in rad/s.
    sensors : (n,) uint8, optional
        What each reading is of, see `SplitReadings`.
    """

    def __init__(
        self,
        time_us: NDArray[np.int64],
        axes: NDArray[np.float32],
        sensors: NDArray[np.uint8] | None = None,
    ) -> None:
        self._order: NDArray[np.intp] | None = None
        if sensors is not None:
            self._order = order = _order(time_us, sensors)
            time_us, axes, sensors = time_us[order], axes[order], sensors[order]
        self.time_us = time_us
        """Times in the order in which the readings are taken, (n,)."""
        self._axes = axes
        self._sensors = sensors

    def __len__(self) -> int:
        return len(self.time_us)

    def readings(self, slot: int, rows: slice) -> Readings:
        """Some of the readings, for a slot of a detector; their offsets are their rows.

        They are `SplitReadings` if the sensors send apart.
        """
        offset = np.arange(rows.start, rows.stop)
        count = len(offset)
        columns = (
            np.full(count, slot, np.intp),
            self.time_us[rows],
            self._axes[rows],
            offset,
            np.zeros(count, np.int64),
            np.zeros(count, np.int64),
        )
        if self._sensors is None:
            return Readings(*columns)
        return SplitReadings(*columns, self._sensors[rows])

    def place(self, steps: Steps) -> Steps:
        """Steps with rows of the series as it was given as their offsets."""
        if self._order is None:
            return steps
        return replace(steps, offset=self._order[steps.offset])


def detect_series(  # noqa: PLR0913 - what a recording consists of, and two observers
    model: Model,
    time_us: NDArray[np.int64],
    axes: NDArray[np.float32],
    rules: Rules = Rules(),  # noqa: B008 - immutable
    *,
    sensors: NDArray[np.uint8] | None = None,
    on_probabilities: Observer | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Steps:
    """Find the steps in one device's readings, with the rules of the stream.

    Parameters
    ----------
    model
        The network.
    time_us, axes, sensors
        See `Series`.
    rules
        When readings belong together.
    on_probabilities
        See `Detector`.
    on_progress
        Called with the number of readings after each chunk of them.

    Returns
    -------
    Steps
        Their ``offset`` is the row of the reading that completed them.
    """
    detector = make_step_detector(
        model, rules, hops_ahead=HOPS_AHEAD, on_probabilities=on_probabilities
    )
    slot = detector.add_device()
    series = Series(time_us, axes, sensors)
    parts = [Steps.none()]
    for begin in range(0, len(series), CHUNK):
        rows = slice(begin, min(begin + CHUNK, len(series)))
        parts.append(detector.feed(*as_fed(series.readings(slot, rows))))
        if on_progress:
            on_progress(rows.stop - rows.start)
    return series.place(Steps.concatenate(parts))


def as_fed(readings: Readings) -> tuple[Readings, SplitReadings | None]:
    """Readings as the arguments of `Detector.feed`."""
    if isinstance(readings, SplitReadings):
        return Readings.none(), readings
    return readings, None


def _order(time_us: NDArray[np.int64], sensors: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Rows in the order in which two sensors measured; each sensor's rows keep their order."""
    elapsed_us = np.zeros(len(time_us), np.int64)
    for sensor in (ACCELEROMETER, GYROSCOPE):
        rows = np.flatnonzero(sensors & sensor)
        # The time that passed, also where the clock was set back.
        elapsed_us[rows] = np.cumsum(np.maximum(np.diff(time_us[rows], prepend=0), 0))
    return np.argsort(elapsed_us, kind="stable")
