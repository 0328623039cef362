"""Comparing found steps with true ones: one to one, never sample by sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.detection import detect_series
from stepstream.training.data import RATE_HZ, STEPLESS, Labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stepstream.detection import Model
    from stepstream.training.data import LabelledRecording

    Detect = Callable[[LabelledRecording], "Moments"]
    Judged = tuple["Result", NDArray[np.bool_]]

__all__ = [
    "Moments",
    "Result",
    "Score",
    "at",
    "detect_with",
    "estimate_constant",
    "evaluate_recording",
    "match",
    "predict_recording",
    "score",
]

TOLERANCES_MS = (187.5, 100.0)
STILL = 40
"""Samples between a step and a sample that counts as standing: half a second."""
LARGEST_CONSTANT = 20
"""Largest constant that is taken off contacts, samples; with more, it may be a whole step."""
TIMED = (Labels.STEPS, Labels.CONTACTS)
"""Labels whose ends have a time."""


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
    true_starts, true_ends, found_starts : float64, float64, int64
        Ascending. Of contacts, the true ends are moved by a constant to the found ones.
    start_pairs, end_pairs : (k, 2) int64
        Rows of true and of found moments that belong together, within the wide tolerance.
    start_pairs_tight, end_pairs_tight : (k, 2) int64
        The same within the tight tolerance.
    stepless : (n,) bool
        Samples of known activity, not near a true step, where nobody steps.
    """

    recording: LabelledRecording
    found: Moments
    true_starts: NDArray[np.float64]
    true_ends: NDArray[np.float64]
    found_starts: NDArray[np.int64]
    start_pairs: NDArray[np.int64]
    end_pairs: NDArray[np.int64]
    start_pairs_tight: NDArray[np.int64]
    end_pairs_tight: NDArray[np.int64]
    stepless: NDArray[np.bool_]

    @property
    def found_steps(self) -> int:
        """Steps that were found where their number is known."""
        return int(at(self.recording.judged, self.found.ends).sum())

    @property
    def count_error(self) -> float:
        """Share by which the count is wrong, below 0 if it is too small; NaN without steps."""
        least, most = self.recording.counts
        found = self.found_steps
        if not most:
            return float("nan")
        return (found - least) / least if found < least else max(0, found - most) / most


@dataclass(frozen=True)
class Score:
    """How well steps were found in some recordings; NaN where nothing is known.

    Attributes
    ----------
    recordings, people
        How many the score rests on.
    timed_recordings, counted_recordings
        Of these, with ends that have a time, and with a number of steps.
    f1_start, f1_end, f1_start_tight, f1_end_tight
        F1 of starts and of ends within 187.5 ms, and within 100 ms. Starts are of whole steps. A
        constant of the recording is taken off contacts.
    bias_start_ms, bias_end_ms, spread_start_ms, spread_end_ms
        Mean and standard deviation of found minus true moments of whole steps.
    true_steps, found_steps
        How many there are (at least) and how many were found, in recordings with steps.
    count_error, signed_count_error
        Mean over the recordings of the share by which the count is wrong, without and with sign.
    worst_count_error, worst_recording
        The largest of these, and whose it is.
    false_per_standing_minute
        Steps that end while the person stands, for each minute of standing.
    false_per_minute, stepless_minutes
        The same for everything that has no step, standing too.
    """

    recordings: int
    people: int
    timed_recordings: int
    counted_recordings: int
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
    signed_count_error: float
    worst_count_error: float
    worst_recording: str
    false_per_standing_minute: float
    false_per_minute: float
    stepless_minutes: float


def at(mask: NDArray[np.bool_], moments: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether moments are at samples of a mask; those outside of it count as its edges."""
    there: NDArray[np.bool_] = mask[np.rint(moments).astype(np.int64).clip(0, len(mask) - 1)]
    return there


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
        sent = np.ones(len(recording.axes), np.bool_)
        for first, end in recording.gaps.tolist():
            sent[first:end] = False
        time_us = np.flatnonzero(sent) * period_us
        steps = detect_series(model, time_us, np.asarray(recording.axes)[sent])
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
    if recording.labels is Labels.CONTACTS:
        ends = ends + estimate_constant(ends, found.ends)
    found_starts = np.sort(found.starts)
    stepless = recording.judged & np.isin(recording.activity, STEPLESS)
    for start, end in zip(recording.starts, recording.ends, strict=False):
        stepless[max(0, int(start) - STILL) : int(end) + STILL] = False
    return Result(
        recording,
        found,
        starts,
        ends,
        found_starts,
        match(starts, found_starts, wide),
        match(ends, found.ends, wide),
        match(starts, found_starts, tight),
        match(ends, found.ends, tight),
        stepless,
    )


def estimate_constant(true: NDArray[np.float64], found: NDArray[np.int64]) -> int:
    """Samples, up to 0.25 s, by which true moments must move so that most of them are found."""
    reach = np.arange(-LARGEST_CONSTANT, LARGEST_CONSTANT + 1)
    offsets = np.rint(found - true[:, np.newaxis]).astype(np.int64).ravel()
    offsets = offsets[np.abs(offsets) <= LARGEST_CONSTANT]
    if not len(offsets):
        return 0
    height = np.bincount(offsets + LARGEST_CONSTANT, minlength=len(reach))
    near = np.convolve(height, np.hanning(11), "same")
    return int(reach[near.argmax()])


def score(results: Sequence[Result], activity: int | None = None) -> Score:
    """Score of some recordings together, or of the samples of an activity in them.

    Counts of an activity are of the recordings in which all steps are in that activity.
    """
    masks = [_chosen(result, activity) for result in results]
    chosen = [(r, mask) for r, mask in zip(results, masks, strict=True) if mask.any()]
    whole = [(r, mask) for r, mask in chosen if r.recording.labels is Labels.STEPS]
    timed = [(r, mask) for r, mask in chosen if r.recording.labels in TIMED]
    errors = {
        f"{r.recording.person}/{r.recording.name}": r.count_error
        for r, mask in chosen
        if r.recording.counts[1] and _steps_within(r, mask)
    }
    error = np.array(list(errors.values()))
    worst = max(errors, key=lambda name: abs(errors[name]), default="")
    starts = _differences(whole, start=True)
    ends = _differences(whole, start=False)
    standing, false_standing = _false(chosen, standing=True)
    minutes, false = _false(chosen, standing=False)
    true_steps, found_steps = _count(chosen)
    return Score(
        recordings=len(chosen),
        people=len({r.recording.person for r, _ in chosen}),
        timed_recordings=sum(bool(at(mask, r.true_ends).any()) for r, mask in timed),
        counted_recordings=len(errors),
        f1_start=_f1(whole, start=True, tight=False),
        f1_end=_f1(timed, start=False, tight=False),
        f1_start_tight=_f1(whole, start=True, tight=True),
        f1_end_tight=_f1(timed, start=False, tight=True),
        bias_start_ms=_mean(starts),
        bias_end_ms=_mean(ends),
        spread_start_ms=float(np.std(starts)) if len(starts) else float("nan"),
        spread_end_ms=float(np.std(ends)) if len(ends) else float("nan"),
        true_steps=true_steps,
        found_steps=found_steps,
        count_error=_mean(np.abs(error)),
        signed_count_error=_mean(error),
        worst_count_error=abs(errors[worst]) if worst else float("nan"),
        worst_recording=worst,
        false_per_standing_minute=false_standing / standing if standing else float("nan"),
        false_per_minute=false / minutes if minutes else float("nan"),
        stepless_minutes=minutes,
    )


def _chosen(result: Result, activity: int | None) -> NDArray[np.bool_]:
    judged = result.recording.judged
    return judged if activity is None else judged & (result.recording.activity == activity)


def _steps_within(result: Result, mask: NDArray[np.bool_]) -> bool:
    """Whether all steps of a recording are in some samples."""
    recording = result.recording
    walked = recording.judged & ~np.isin(recording.activity, STEPLESS)
    return bool(mask[walked].all()) and bool(walked.any())


def _count(chosen: Sequence[Judged]) -> tuple[int, int]:
    true = found = 0
    for result, mask in chosen:
        if _steps_within(result, mask):
            true += result.recording.counts[0]
        elif result.recording.labels in TIMED:
            true += int(at(mask, result.true_ends).sum())
        else:
            continue
        found += int(at(mask, result.found.ends).sum())
    return true, found


def _false(chosen: Sequence[Judged], *, standing: bool) -> tuple[float, int]:
    """Minutes without a step, and steps found there."""
    samples = false = 0
    for result, mask in chosen:
        without = result.stepless & mask
        if standing:
            without = without & result.recording.standing
        samples += int(without.sum())
        false += int(at(without, result.found.ends).sum())
    return samples / RATE_HZ / 60, false


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _pairs(result: Result, *, start: bool, tight: bool) -> NDArray[np.int64]:
    if start:
        return result.start_pairs_tight if tight else result.start_pairs
    return result.end_pairs_tight if tight else result.end_pairs


def _f1(chosen: Sequence[Judged], *, start: bool, tight: bool) -> float:
    hits = both = labelled = 0
    for result, mask in chosen:
        recording = result.recording
        known = mask & (recording.start_known if start else recording.end_known)
        true = at(known, result.true_starts if start else result.true_ends)
        found = at(known, result.found_starts if start else result.found.ends)
        pairs = _pairs(result, start=start, tight=tight)
        hits += int(true[pairs[:, 0]].sum() + found[pairs[:, 1]].sum())
        labelled += int(true.sum())
        both += int(true.sum() + found.sum())
    return hits / both if labelled else float("nan")


def _differences(chosen: Sequence[Judged], *, start: bool) -> NDArray[np.float64]:
    """Found minus true moments of all pairs, ms."""
    parts = [np.empty(0)]
    for result, mask in chosen:
        pairs = _pairs(result, start=start, tight=False)
        true = result.true_starts if start else result.true_ends
        got = result.found_starts if start else result.found.ends
        pairs = pairs[at(mask, true[pairs[:, 0]])]
        parts.append((got[pairs[:, 1]] - true[pairs[:, 0]]) * 1000 / RATE_HZ)
    return np.concatenate(parts)
