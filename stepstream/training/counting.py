"""Steps without times, placed where a network finds them likeliest.

Of some walks only the number of steps is known, of others the ends, not the starts. Hard
assignment, as in expectation-maximisation: a teacher, a network that knows steps from other
recordings, says how probable an end is at each sample; as many samples are chosen as there are
steps, likely and regular; a student learns them as ends. These are pseudo-labels (Lee,
"Pseudo-Label: the simple and efficient semi-supervised learning method", ICML workshops 2013) that
have to fit a count. The phase of the steps is the teacher's own, so it is that of all other labels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.contacts import align, smooth
from stepstream.training.data import RATE_HZ, LabelledRecording, Labels

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    Given = tuple[LabelledRecording, NDArray[np.float32]]

__all__ = ["choose_places", "learn_from", "place_steps"]

GRID = 2
"""Samples between two places that are tried: 25 ms, a third of a bump's width."""
INTERVAL_S = (0.27, 1.2)
"""Shortest and longest time between two ends."""
IRREGULAR = 0.2
"""Standard deviation of an interval, as a logarithm, around the usual one."""
PAUSE = 8.0
"""Cost of a pause, as the logarithm of a probability: more than one unlikely end."""
FLOOR = 0.02
"""Probability added to both sides: however sure a teacher is, it may be wrong."""
CONTRAST = 0.3
"""Least mean probability at the chosen places above that in the middle between them.

With less, the teacher doesn't see the steps, and their phase is a guess."""
FEWEST = 3
"""Fewest steps whose regularity says anything."""
LARGEST = 40_000_000
"""Largest product of steps and samples: 160 MB. An hour would need 3,600 times as much as a
minute; cut it into pieces whose counts are known."""
PHASES = np.arange(0.2, 0.81, 0.05)
"""Where starts may be, as shares of the interval that follows an end."""
USUAL_PHASE = (0.5, 0.15)
"""Mean and standard deviation of that share: where starts are labelled, 0.3 to 0.7."""


def learn_from(
    recordings: Sequence[LabelledRecording],
    predict: Callable[[LabelledRecording], NDArray[np.float32]],
    labels: Collection[Labels] = tuple(Labels),
) -> list[LabelledRecording]:
    """The recordings with all that can be learned from them, by a teacher.

    Contacts are aligned, steps without times are placed.

    Parameters
    ----------
    recordings
        Any; those of a session together.
    predict
        The teacher: probabilities of a start and an end of each sample, (n, 2).
    labels
        Only recordings with such labels are changed.
    """
    asked = [(r, predict(r)) for r in recordings if r.needs_teacher and r.labels in labels]
    aligned = [
        (align(r, given[:, 1]) if r.labels is Labels.CONTACTS else r, given) for r, given in asked
    ]
    placed = {(r.person, r.name): r for r in place_steps(aligned)}
    return [placed.get((r.person, r.name), r) for r in recordings]


def place_steps(given: Sequence[Given]) -> list[LabelledRecording]:
    """The recordings with ends, and starts, to learn from; those in doubt as they were.

    Devices that recorded the same walk get the same ends: where those that show them alone show
    them together.

    Parameters
    ----------
    given
        Recordings whose contacts, if they have any, are aligned; each with the probabilities of
        a start and an end of its samples, (n, 2).
    """
    sessions: dict[tuple[str, str], list[Given]] = {}
    for one in given:
        recording = one[0]
        sessions.setdefault((recording.person, recording.session or recording.name), []).append(one)
    return [placed for devices in sessions.values() for placed in _place_session(devices)]


def _place_session(devices: Sequence[Given]) -> list[LabelledRecording]:
    recordings = [replace(recording, aligned=True) for recording, _ in devices]
    one, origin = recordings[0], min(r.first for r in recordings)
    if one.labels is Labels.CONTACTS:
        if len(one.ends) < FEWEST:
            return recordings
        starts = _find_starts(one.ends, _combine(devices, origin)[:, 0])
        return [_with(one, 0, one.ends, starts)]
    seeing = [
        device
        for device in devices
        if _find_ends(one, _combine([device], origin)[:, 1], one.first - origin) is not None
    ]
    if not seeing:
        return recordings
    together = _combine(seeing, origin)
    ends = _find_ends(one, together[:, 1], one.first - origin)
    if ends is None:
        return recordings
    starts = _find_starts(ends, together[:, 0])
    return [_with(r, origin - r.first, ends, starts) for r in recordings]


def _combine(devices: Sequence[Given], origin: int) -> NDArray[np.float64]:
    """Probabilities (n, 2) of all devices together, on their common clock: the mean log odds."""
    length = max(r.first - origin + len(r.axes) for r, _ in devices)
    odds, number = np.zeros((length, 2)), np.full((length, 1), 1e-9)
    for recording, given in devices:
        here = slice(recording.first - origin, recording.first - origin + len(given))
        even = np.stack([smooth(given[:, n], 2.0) for n in (0, 1)], axis=1).clip(0, 1)
        odds[here] += _log_odds(even)
        number[here] += 1
    both: NDArray[np.float64] = 1 / (1 + np.exp(-odds / number))
    return both


def _log_odds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    odds: NDArray[np.float64] = np.log((probability + FLOOR) / (1 - probability + FLOOR))
    return odds


def _find_ends(
    recording: LabelledRecording, probability: NDArray[np.float64], offset: int
) -> NDArray[np.float64] | None:
    """Ends of a walk whose number is known, on the session's clock; None if in doubt."""
    walk = np.flatnonzero(recording.judged & ~recording.end_known) + offset
    least, most = recording.counts
    if least < FEWEST or most * len(walk) > LARGEST:
        return None
    usual = len(walk) / most
    if recording.labels is Labels.SWINGS:
        usual = float(np.median(np.diff(recording.ends)))
    there = probability[walk[0] : walk[-1] + 1 : GRID]
    chosen = choose_places(_log_odds(there), usual / GRID, least, most)
    if chosen is None or _contrast(there, chosen) < CONTRAST:
        return None
    ends: NDArray[np.float64] = (walk[0] + GRID * chosen).astype(np.float64)
    return ends


def _find_starts(
    ends: NDArray[np.float64], probability: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A start after each end, at the likeliest phase, the same for all intervals."""
    intervals = np.diff(ends)
    steady = intervals < INTERVAL_S[1] * RATE_HZ
    before, lengths = ends[:-1][steady], intervals[steady]
    places = before + PHASES[:, np.newaxis] * lengths
    given = probability[np.rint(places).astype(np.int64).clip(0, len(probability) - 1)]
    mean, spread = USUAL_PHASE
    heights = (given.mean(axis=1) + FLOOR) * np.exp(-0.5 * ((PHASES - mean) / spread) ** 2)
    starts: NDArray[np.float64] = places[int(heights.argmax())]
    return starts


def _contrast(probability: NDArray[np.float64], chosen: NDArray[np.int64]) -> float:
    between = probability[(chosen[1:] + chosen[:-1]) // 2]
    return float(probability[chosen].mean() - between.mean())


def _with(
    recording: LabelledRecording,
    offset: int,
    ends: NDArray[np.float64],
    starts: NDArray[np.float64],
) -> LabelledRecording:
    """The recording with these ends and starts of the session's clock; pauses stay unknown."""
    ends, starts = ends + offset, starts + offset
    start_known, end_known = recording.start_known.copy(), recording.end_known.copy()
    half = int(np.median(np.diff(ends))) // 2
    for first, last in _bouts(ends):
        if recording.labels is not Labels.CONTACTS:
            end_known[max(0, first - half) : max(0, last + half)] = True
    for first, last in _bouts(starts) if len(starts) else ():
        here = slice(max(0, first - half), max(0, last + half))
        start_known[here] = end_known[here]
    for first, end in recording.gaps.tolist():
        start_known[first:end] = end_known[first:end] = False
    return replace(
        recording,
        ends=ends,
        starts=starts,
        start_known=start_known,
        end_known=end_known,
        aligned=True,
    )


def _bouts(moments: NDArray[np.float64]) -> list[tuple[int, int]]:
    """First and last moment of each stretch without a pause."""
    pauses = np.flatnonzero(np.diff(moments) > INTERVAL_S[1] * RATE_HZ)
    firsts, lasts = [0, *(pauses + 1).tolist()], [*pauses.tolist(), len(moments) - 1]
    return [(int(moments[a]), int(moments[b])) for a, b in zip(firsts, lasts, strict=True)]


def choose_places(
    odds: NDArray[np.float64], usual: float, least: int, most: int
) -> NDArray[np.int64] | None:
    """Between ``least`` and ``most`` places with the largest sum of log odds, less irregularity.

    By dynamic programming: the best sum of so many places, the last of which is here.

    Parameters
    ----------
    odds : (n,) float64
        Log odds every `GRID` samples.
    usual
        The usual interval, places; others cost as in a log-normal distribution around it.
    least, most
        How many places.

    Returns
    -------
    (m,) int64
        Ascending; None if so many don't fit.
    """
    shortest, longest = (max(1, round(s * RATE_HZ / GRID)) for s in INTERVAL_S)
    intervals = np.arange(shortest, longest + 1, dtype=np.int32)
    cost = 0.5 * (np.log(intervals / usual) / IRREGULAR) ** 2
    every = np.arange(len(odds), dtype=np.int32)
    sums = [odds]
    sources: list[NDArray[np.int32]] = []
    for _ in range(1, most):
        earlier = np.concatenate([np.full(longest + 1, -np.inf), sums[-1]])
        reached = np.stack([earlier[longest + 1 - d :][: len(odds)] for d in intervals])
        reached -= cost[:, np.newaxis]
        step = reached.argmax(axis=0).astype(np.int32)
        value, source = reached[step, every], every - intervals[step]
        # After a pause: the best of all places further back.
        far = np.maximum.accumulate(earlier[: len(odds)])
        paused = far - PAUSE > value
        sums.append(odds + np.where(paused, far - PAUSE, value))
        sources.append(np.where(paused, _last_rise(far) - longest - 1, source))
    totals = [float(row.max()) for row in sums]
    number = least + int(np.argmax(totals[least - 1 : most]))
    if not np.isfinite(totals[number - 1]):
        return None
    places = [int(sums[number - 1].argmax())]
    for source in reversed(sources[: number - 1]):
        places.append(int(source[places[-1]]))
    return np.array(places[::-1], np.int64)


def _last_rise(ascending: NDArray[np.float64]) -> NDArray[np.int32]:
    """For each value (n,), the first place of its height."""
    rises = np.concatenate([[True], ascending[1:] > ascending[:-1]])
    found: NDArray[np.int32] = np.maximum.accumulate(
        np.where(rises, np.arange(len(rises), dtype=np.int32), 0)
    )
    return found
