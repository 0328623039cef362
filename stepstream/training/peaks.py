"""A peak detector for comparison: a step counter without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import RATE_HZ, Labels
from stepstream.training.evaluation import Moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording

__all__ = ["find_peaks", "fit_peaks"]

PASS_HZ = (0.7, 3.0)
LEAST = 0.8
"""Smallest height of a peak, m/s^2."""
APART = 24
"""Smallest distance of two peaks, samples: 0.3 s."""


class PeakDetector:
    """Peaks of the acceleration's magnitude in the band of steps, with a zero-phase filter.

    It sees the whole recording, past and future; a stream can't do that. The distance of a peak
    from the step's start and end is constant.
    """

    def __init__(self, to_start: float, to_end: float) -> None:
        self._to_start = to_start
        self._to_end = to_end

    def __call__(self, recording: LabelledRecording) -> Moments:
        places = find_peaks(np.linalg.norm(recording.axes[:, :3], axis=1))
        last = len(recording.axes) - 1
        return Moments(
            np.rint(places + self._to_start).astype(np.int64).clip(0, last),
            np.rint(places + self._to_end).astype(np.int64).clip(0, last),
            np.ones(len(places), np.float32),
        )


def fit_peaks(recordings: Sequence[LabelledRecording]) -> PeakDetector:
    """A peak detector whose distances are the medians over some recordings' steps."""
    to_start: list[float] = []
    to_end: list[float] = []
    for recording in recordings:
        if recording.labels is not Labels.STEPS:
            continue
        places = find_peaks(np.linalg.norm(recording.axes[:, :3], axis=1))
        if not len(places):
            continue
        nearest = places[np.abs(places - recording.ends[:, np.newaxis]).argmin(axis=1)]
        near = np.abs(nearest - recording.ends) < APART
        to_end += (recording.ends - nearest)[near].tolist()
        to_start += (recording.starts - nearest)[near].tolist()
    if not to_end:
        return PeakDetector(0.0, 0.0)
    return PeakDetector(float(np.median(to_start)), float(np.median(to_end)))


def find_peaks(magnitude: NDArray[np.floating]) -> NDArray[np.int64]:
    """Samples of the peaks of a magnitude (n,), m/s^2."""
    spectrum = np.fft.rfft(magnitude - magnitude.mean())
    hertz = np.fft.rfftfreq(len(magnitude), 1 / RATE_HZ)
    spectrum[(hertz < PASS_HZ[0]) | (hertz > PASS_HZ[1])] = 0
    band = np.fft.irfft(spectrum, len(magnitude))
    peaks = np.flatnonzero((band[1:-1] > band[:-2]) & (band[1:-1] >= band[2:])) + 1
    peaks = peaks[band[peaks] > LEAST]
    kept: list[int] = []
    for peak in peaks.tolist():
        if kept and peak - kept[-1] < APART:
            if band[peak] > band[kept[-1]]:
                kept[-1] = peak
        else:
            kept.append(peak)
    return np.array(kept, np.int64)
