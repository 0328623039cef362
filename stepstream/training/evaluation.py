"""Judging steps against true ones: never by the sample, always one to one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection import detect_series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from stepstream.detection import Model, Steps
    from stepstream.training.data import LabelledRecording

__all__ = ["Score", "match", "score", "score_recordings"]

TOLERANCES_MS = (187.5, 100.0)


@dataclass(frozen=True)
class Score:
    """How well steps were found in some recordings.

    Attributes
    ----------
    f1_start, f1_end, f1_start_tight, f1_end_tight
        F1 of starts and of ends within 187.5 ms, and within 100 ms.
    true_steps, found_steps
        How many there are and how many were found.
    false_per_standing_minute
        Steps that end while the person stands, for each minute of standing.
    """

    f1_start: float
    f1_end: float
    f1_start_tight: float
    f1_end_tight: float
    true_steps: int
    found_steps: int
    false_per_standing_minute: float

    @property
    def count_error(self) -> float:
        """Difference of the counts as a share of the true one."""
        return abs(self.found_steps - self.true_steps) / max(1, self.true_steps)


def match(true: NDArray[np.int64], found: NDArray[np.int64], tolerance: float) -> int:
    """Most pairs of a true and a found moment, each used once, no further apart than allowed.

    Both ascend; taking the earliest that fits is optimal on a line.
    """
    pairs = place = 0
    for moment in true:
        while place < len(found) and found[place] < moment - tolerance:
            place += 1
        if place < len(found) and found[place] <= moment + tolerance:
            pairs += 1
            place += 1
    return pairs


def score(results: Iterable[tuple[LabelledRecording, Steps]], period_us: int) -> Score:
    """Score of all steps found in recordings, taken together."""
    pairs = np.zeros(4)
    true_steps = found_steps = false_standing = standing = 0
    for recording, steps in results:
        truth = (recording.starts * period_us, recording.ends * period_us)
        found = (np.sort(steps.start_us), np.sort(steps.end_us))
        pairs += [
            match(true, got, tolerance_ms * 1000)
            for tolerance_ms in TOLERANCES_MS
            for true, got in zip(truth, found, strict=True)
        ]
        true_steps += len(recording.ends)
        found_steps += len(steps)
        still = _far_from_steps(recording)
        standing += int(still.sum())
        false_standing += int(still[np.clip(steps.end_us // period_us, 0, len(still) - 1)].sum())
    f1 = 2 * pairs / max(1, true_steps + found_steps)
    minutes = standing * period_us / 60e6
    return Score(
        f1_start=float(f1[0]),
        f1_end=float(f1[1]),
        f1_start_tight=float(f1[2]),
        f1_end_tight=float(f1[3]),
        true_steps=true_steps,
        found_steps=found_steps,
        false_per_standing_minute=false_standing / minutes if minutes else 0.0,
    )


def _far_from_steps(recording: LabelledRecording) -> NDArray[np.bool_]:
    """Samples at which the person stands, half a second or more from any step."""
    still = recording.standing.copy()
    for start, end in zip(recording.starts, recording.ends, strict=True):
        still[max(0, start - 40) : end + 40] = False
    return still


def score_recordings(model: Model, recordings: Sequence[LabelledRecording]) -> dict[str, Score]:
    """A model's score for each person."""
    period_us = model.metadata.period_us
    people: dict[str, list[tuple[LabelledRecording, Steps]]] = {}
    for recording in recordings:
        time_us = np.arange(len(recording.axes)) * period_us
        steps = detect_series(model, time_us, recording.axes)
        people.setdefault(recording.person, []).append((recording, steps))
    return {person: score(results, period_us) for person, results in people.items()}
