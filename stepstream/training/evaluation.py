"""Comparing found steps with true ones: one to one, never sample by sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.detection import detect_series
from stepstream.training.data import ACTIVITIES, RATE_HZ

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stepstream.detection import Model
    from stepstream.training.data import LabelledRecording

    Detect = Callable[[LabelledRecording], "Moments"]

__all__ = [
    "Moments",
    "Result",
    "Score",
    "detect_with",
    "evaluate_recording",
    "match",
    "predict_recording",
    "score",
]

TOLERANCES_MS = (187.5, 100.0)
STILL = 40
"""Samples between a step and a sample that counts as standing: half a second."""


class Moments(NamedTuple):
    """Steps in samples: where they start and end, (m,) int64, and their end's probability."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def spaced(self, refractory: int) -> Moments:
        """The steps that count in a stream: each ends at least ``refractory`` after the last one.

        When a stream counts a peak, it hasn't seen the samples after it. If a higher peak follows
        closely, the first of the two is published and counts.
        """
        kept: list[int] = []
        for row, end in enumerate(self.ends.tolist()):
            if not kept or end - self.ends[kept[-1]] >= refractory:
                kept.append(row)
        return Moments(self.starts[kept], self.ends[kept], self.probabilities[kept])


@dataclass(frozen=True)
class Result:
    """The steps that were found in a recording, and which of them are right.

    Attributes
    ----------
    recording
        The recording.
    found
        The steps that were found.
    start_pairs, end_pairs : (k, 2) int64
        Rows of true and of found moments that belong together, within the wide tolerance.
    tight
        Pairs of starts and of ends within the tight tolerance.
    false_standing, standing
        Ends found where somebody stands, and samples of standing.
    """

    recording: LabelledRecording
    found: Moments
    start_pairs: NDArray[np.int64]
    end_pairs: NDArray[np.int64]
    tight: tuple[int, int]
    false_standing: int
    standing: int


@dataclass(frozen=True)
class Score:
    """How well steps were found in some recordings.

    Attributes
    ----------
    f1_start, f1_end, f1_start_tight, f1_end_tight
        F1 of starts and of ends within 187.5 ms, and within 100 ms; NaN where they aren't labelled.
    bias_start_ms, bias_end_ms, spread_start_ms, spread_end_ms
        Mean and standard deviation of found minus true moments.
    true_steps, found_steps
        How many there are and how many were found.
    count_error
        Mean over the recordings of the share by which the count is wrong.
    worst_count_error
        The largest of these.
    false_per_standing_minute
        Steps that end while the person stands, for each minute of standing.
    """

    f1_start: float
    f1_end: float
    f1_start_tight: float
    f1_end_tight: float
    bias_start_ms: float
    bias_end_ms: float
    spread_start_ms: float
    spread_end_ms: float
    true_steps: int
    found_steps: int
    count_error: float
    worst_count_error: float
    false_per_standing_minute: float
    activities: dict[str, float] = field(default_factory=dict)
    """F1 of ends for each activity."""


def match(
    true: NDArray[np.floating] | NDArray[np.int64],
    found: NDArray[np.int64],
    tolerance: float,
) -> NDArray[np.int64]:
    """Most pairs of a true and a found moment, each used once, no further apart than allowed.

    Both ascend. On a line it is optimal to choose the earliest that fits.

    Returns
    -------
    (k, 2) int64
        Rows of ``true`` and of ``found``.
    """
    pairs = []
    place = 0
    for row, moment in enumerate(true.tolist()):
        while place < len(found) and found[place] < moment - tolerance:
            place += 1
        if place < len(found) and found[place] <= moment + tolerance:
            pairs.append((row, place))
            place += 1
    return np.array(pairs, np.int64).reshape(-1, 2)


def detect_with(model: Model) -> Detect:
    """Detection as in the stream: windows, model, rules, and which steps count."""

    def detect(recording: LabelledRecording) -> Moments:
        period_us = model.metadata.period_us
        time_us = np.arange(len(recording.axes)) * period_us
        steps = detect_series(model, time_us, np.asarray(recording.axes))
        found = Moments(
            steps.start_us // period_us, steps.end_us // period_us, steps.end_probability
        )
        return found.spaced(model.metadata.refractory)

    return detect


def predict_recording(model: Model, recording: LabelledRecording) -> NDArray[np.float32]:
    """Start and end probability of each sample of a recording: (n, 2), 0 where none was given."""
    given = np.zeros((len(recording.axes), 2), np.float32)

    def keep(
        _: NDArray[np.intp], first: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> None:
        places = first[:, np.newaxis] + np.arange(model.metadata.hop)
        given[places] = probabilities

    time_us = np.arange(len(recording.axes)) * model.metadata.period_us
    detect_series(model, time_us, np.asarray(recording.axes), on_probabilities=keep)
    return given


def evaluate_recording(recording: LabelledRecording, found: Moments) -> Result:
    """Compare the steps that were found in a recording with its labels."""
    wide, tight = (milliseconds * RATE_HZ / 1000 for milliseconds in TOLERANCES_MS)
    starts, ends = np.sort(recording.starts), np.sort(recording.ends)
    found_starts = np.sort(found.starts)
    still = recording.standing.copy()
    for start, end in zip(recording.starts, recording.ends, strict=False):
        still[max(0, int(start) - STILL) : int(end) + STILL] = False
    return Result(
        recording,
        found,
        match(starts, found_starts, wide),
        match(ends, found.ends, wide),
        (len(match(starts, found_starts, tight)), len(match(ends, found.ends, tight))),
        int(still[found.ends.clip(0, len(still) - 1)].sum()),
        int(still.sum()),
    )


def score(results: Sequence[Result]) -> Score:
    """Score of the steps of some recordings together."""
    whole = [result for result in results if not result.recording.contacts_only]
    true_steps = sum(len(r.recording.ends) for r in results)
    found_steps = sum(len(r.found.ends) for r in results)
    both = sum(len(r.recording.ends) + len(r.found.ends) for r in whole)

    def f1(pairs: int) -> float:
        return 2 * pairs / both if both else float("nan")

    errors = [_count_error(result) for result in results]
    starts = _differences(whole, start=True)
    ends = _differences(whole, start=False)
    minutes = sum(r.standing for r in results) / RATE_HZ / 60
    return Score(
        f1_start=f1(sum(len(r.start_pairs) for r in whole)),
        f1_end=f1(sum(len(r.end_pairs) for r in whole)),
        f1_start_tight=f1(sum(r.tight[0] for r in whole)),
        f1_end_tight=f1(sum(r.tight[1] for r in whole)),
        bias_start_ms=_mean(starts),
        bias_end_ms=_mean(ends),
        spread_start_ms=float(np.std(starts)) if len(starts) else float("nan"),
        spread_end_ms=float(np.std(ends)) if len(ends) else float("nan"),
        true_steps=true_steps,
        found_steps=found_steps,
        count_error=_mean(np.array(errors)),
        worst_count_error=max(errors, default=0.0),
        false_per_standing_minute=(
            sum(r.false_standing for r in results) / minutes if minutes else 0.0
        ),
        activities=_f1_by_activity(whole),
    )


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _count_error(result: Result) -> float:
    least, most = result.recording.counts
    found = len(result.found.ends)
    return max(least - found, found - most, 0) / max(1, least if found < least else most)


def _differences(results: Sequence[Result], *, start: bool) -> NDArray[np.float64]:
    """Found minus true moments of all pairs, ms."""
    parts = [np.empty(0)]
    for result in results:
        pairs = result.start_pairs if start else result.end_pairs
        recording, found = result.recording, result.found
        true = np.sort(recording.starts if start else recording.ends)
        got = np.sort(found.starts if start else found.ends)
        parts.append((got[pairs[:, 1]] - true[pairs[:, 0]]) * 1000 / RATE_HZ)
    return np.concatenate(parts)


def _f1_by_activity(results: Sequence[Result]) -> dict[str, float]:
    hits = np.zeros(len(ACTIVITIES) + 1)
    both = np.zeros(len(ACTIVITIES) + 1)
    for result in results:
        activity = result.recording.activity
        last = len(activity) - 1
        true = activity[np.sort(result.recording.ends).astype(np.int64).clip(0, last)]
        found = activity[result.found.ends.clip(0, last)]
        np.add.at(hits, true[result.end_pairs[:, 0]], 1)
        np.add.at(hits, found[result.end_pairs[:, 1]], 1)
        np.add.at(both, true, 1)
        np.add.at(both, found, 1)
    return {
        name: float(hits[number] / both[number])
        for number, name in enumerate(ACTIVITIES)
        if number and both[number]
    }
