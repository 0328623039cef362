"""One device's readings from beginning to end: detection without a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import Readings, Steps
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


def detect_series(
    model: Model,
    time_us: NDArray[np.int64],
    axes: NDArray[np.float32],
    rules: Rules = Rules(),  # noqa: B008 - immutable
    *,
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
    for begin in range(0, len(time_us), CHUNK):
        rows = slice(begin, min(begin + CHUNK, len(time_us)))
        offset = np.arange(rows.start, rows.stop)
        parts.append(
            detector.feed(
                Readings(
                    np.full(len(offset), slot, np.intp),
                    time_us[rows],
                    axes[rows],
                    offset,
                    np.zeros(len(offset), np.int64),
                    np.zeros(len(offset), np.int64),
                )
            )
        )
        if on_progress:
            on_progress(len(offset))
    return Steps.concatenate(parts)
