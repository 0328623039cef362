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

__all__ = ["detect_series"]

CHUNK = 50_000
HOPS_AHEAD = 256


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
    time_us : (n,) int64
        Times in microseconds since the epoch, or from wherever they count.
    axes : (n, 6) float32
        Acceleration in m/s^2, angular velocity in rad/s.
    rules
        When readings belong together. There is no stream time, so nothing is idle.
    sensors : (n,) uint8, optional
        What each reading is of, see `SplitReadings`. Readings of two sensors are taken in the order
        of their times, as if both had been delivered at once.
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
    parts = [Steps.none()]
    order = np.arange(len(time_us))
    if sensors is not None:
        order = _order(time_us, sensors)
        time_us, axes, sensors = time_us[order], axes[order], sensors[order]
    for begin in range(0, len(time_us), CHUNK):
        rows = slice(begin, min(begin + CHUNK, len(time_us)))
        offset = np.arange(rows.start, rows.stop)
        columns = (
            np.full(len(offset), slot, np.intp),
            time_us[rows],
            axes[rows],
            offset,
            np.zeros(len(offset), np.int64),
            np.zeros(len(offset), np.int64),
        )
        if sensors is None:
            parts.append(detector.feed(Readings(*columns)))
        else:
            parts.append(detector.feed(Readings.none(), SplitReadings(*columns, sensors[rows])))
        if on_progress:
            on_progress(len(offset))
    steps = Steps.concatenate(parts)
    return replace(steps, offset=order[steps.offset])


def _order(time_us: NDArray[np.int64], sensors: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Rows in the order in which two sensors measured; each sensor's rows keep their order."""
    elapsed_us = np.zeros(len(time_us), np.int64)
    for sensor in (ACCELEROMETER, GYROSCOPE):
        rows = np.flatnonzero(sensors & sensor)
        # The time that passed, also where the clock was set back.
        elapsed_us[rows] = np.cumsum(np.maximum(np.diff(time_us[rows], prepend=0), 0))
    return np.argsort(elapsed_us, kind="stable")
