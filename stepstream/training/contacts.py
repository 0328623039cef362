"""Foot contacts with an unknown lag, converted to ends of steps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording

__all__ = ["align", "estimate_lag", "smooth"]

LARGEST_LAG = 20
"""Largest lag in samples; beyond 0.25 s a correlation may be wrong by a whole step."""
REACH = 9
"""How far a contact may move to the nearest probable end, samples: it was sampled at 10 Hz."""
SPREAD = 7.0
LEAST = 0.1


def estimate_lag(contacts: NDArray[np.float64], probability: NDArray[np.float32]) -> int:
    """Samples by which contacts must move so that ends are most probable there.

    Parameters
    ----------
    contacts : (m,) float64
        In samples.
    probability : (n,) float32
        Probability of an end, sample by sample.
    """
    even = smooth(probability, 4.0)
    lags = np.arange(-LARGEST_LAG, LARGEST_LAG + 1)
    places = np.rint(contacts).astype(np.int64) + lags[:, np.newaxis]
    inside = (places >= 0) & (places < len(even))
    hits = np.where(inside, even[places.clip(0, len(even) - 1)], 0).sum(axis=1)
    return int(lags[hits.argmax()])


def align(recording: LabelledRecording, probability: NDArray[np.float32]) -> LabelledRecording:
    """The recording with its contacts as ends: without lag, each at the most probable place nearby.

    Parameters
    ----------
    recording
        One with contacts.
    probability : (n,) float32
        Probability of an end for each of its samples, from any model that knows steps.
    """
    even = smooth(probability, 1.5)
    lag = estimate_lag(recording.ends, probability)
    ends = recording.ends + lag
    places = np.rint(ends).astype(np.int64)[:, np.newaxis] + np.arange(-REACH, REACH + 1)
    inside = (places >= 0) & (places < len(even))
    given = np.where(inside, even[places.clip(0, len(even) - 1)], 0)
    best = (given * np.exp(-0.5 * ((places - ends[:, np.newaxis]) / SPREAD) ** 2)).argmax(axis=1)
    row = np.arange(len(ends))
    moved = np.sort(np.where(given[row, best] > LEAST, places[row, best], ends))
    return replace(
        recording,
        ends=moved,
        start_known=_shift(recording.start_known, lag),
        end_known=_shift(recording.end_known, lag),
        aligned=True,
    )


def _shift(mask: NDArray[np.bool_], lag: int) -> NDArray[np.bool_]:
    """The mask, moved with the contacts; its first or last value goes on."""
    moved: NDArray[np.bool_] = mask[(np.arange(len(mask)) - lag).clip(0, len(mask) - 1)]
    return moved


def smooth(values: NDArray[np.float32], width: float) -> NDArray[np.float64]:
    """The values (n,) through a Gaussian window whose standard deviation is ``width`` samples."""
    reach = np.arange(-int(3 * width), int(3 * width) + 1)
    kernel = np.exp(-0.5 * (reach / width) ** 2)
    return np.convolve(values, kernel / kernel.sum(), "same")
