"""How often each recording is read in a pass, so that no set, person or placement dominates."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import Labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording

__all__ = ["choose_passes", "read_passes"]

LEVELS: tuple[tuple[str, ...], ...] = (
    (),
    ("origin",),
    ("origin", "stepless"),
    ("origin", "stepless", "placement"),
    ("origin", "stepless", "placement", "person"),
)
MOST_PASSES = 8.0
"""Largest number of times that a recording is read in a pass on average: a few seconds of one
person, repeated a hundred times, are still a few seconds."""


def read_passes(
    recordings: Sequence[LabelledRecording], balance: float, whole: float = 0.0
) -> NDArray[np.float64]:
    """Mean number of times to read each recording in a pass, (n,); their samples add up as before.

    Parameters
    ----------
    recordings
        What to train on.
    balance
        0 reads each once. 1 gives each set the same number of samples; in it what has steps and
        what has none, so that no sensor is known by either alone; of these each placement, and
        each person. Between 0 and 1, shares are geometric means of both.
    whole
        Least share of the samples that is read from recordings with whole steps: only these say
        when a step starts and ends without a teacher.
    """
    samples = np.array([len(r.axes) for r in recordings], np.float64)
    equal = _equal_shares(recordings, samples)
    shares = equal**balance * (samples / samples.sum()) ** (1 - balance)
    shares = _with_least(shares / shares.sum(), recordings, whole)
    passes = shares * samples.sum() / samples
    limited = np.minimum(passes, MOST_PASSES)
    missing = samples.sum() - (limited * samples).sum()
    free = limited < MOST_PASSES
    if missing > 0 and free.any():
        limited[free] *= 1 + missing / (limited[free] * samples[free]).sum()
    most: NDArray[np.float64] = limited.clip(max=MOST_PASSES)
    return most


def _with_least(
    shares: NDArray[np.float64], recordings: Sequence[LabelledRecording], whole: float
) -> NDArray[np.float64]:
    """Shares (n,) that add up to 1, at least ``whole`` of it of recordings with whole steps."""
    known = np.array([r.labels is Labels.STEPS for r in recordings])
    share = float(shares[known].sum())
    if known.all() or not 0 < share < whole:
        return shares
    return np.where(known, shares * whole / share, shares * (1 - whole) / (1 - share))


def choose_passes(passes: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.int64]:
    """Places of the recordings of one pass, in no order; a fraction is a chance of one more."""
    whole = np.floor(passes)
    times = whole + (random.random(len(passes)) < passes - whole)
    return np.repeat(np.arange(len(passes)), times.astype(np.int64))


def _equal_shares(
    recordings: Sequence[LabelledRecording], samples: NDArray[np.float64]
) -> NDArray[np.float64]:
    shares = np.ones(len(recordings))
    for outer, inner in pairwise(LEVELS):
        parts: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for recording in recordings:
            parts.setdefault(_key(recording, outer), set()).add(_key(recording, inner))
        shares /= np.array([len(parts[_key(recording, outer)]) for recording in recordings])
    own: dict[tuple[str, ...], float] = {}
    for recording, count in zip(recordings, samples.tolist(), strict=True):
        key = _key(recording, LEVELS[-1])
        own[key] = own.get(key, 0.0) + count
    within: NDArray[np.float64] = samples / np.array([own[_key(r, LEVELS[-1])] for r in recordings])
    return shares * within


def _key(recording: LabelledRecording, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(str(getattr(recording, name)) for name in names)
