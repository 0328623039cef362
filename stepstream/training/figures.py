"""Tables of scores: by person, set, placement, activity, walking aid and rate."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

from stepstream.training.data import ACTIVITIES, RATE_HZ
from stepstream.training.evaluation import TIMED, Score, at, score

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording
    from stepstream.training.evaluation import Result

__all__ = [
    "Recall",
    "Reliability",
    "Row",
    "fit_calibration",
    "group_results",
    "measure_recall",
    "measure_reliability",
    "recall_table",
    "reliability_table",
    "score_table",
    "to_json",
]

RATES_HZ = (12.5, 20, 25, 50, 80, 100, 200, 400)
AFTER_S = (1, 2, 4, 8, math.inf)
"""Ends of the stretches of time after which recall is given, seconds."""
PROBABILITIES = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Edges of the classes of end probabilities for which it is said how many steps are right."""
NEWTON_STEPS = 50
BOUT_S = 2.0
"""Time without a step after which the next one starts another bout of walking."""

GROUPS: tuple[tuple[str, Callable[[LabelledRecording], str]], ...] = (
    ("set", lambda r: r.origin),
    ("person", lambda r: r.person),
    ("placement", lambda r: r.placement),
    ("placement in a set", lambda r: f"{r.origin}, {r.placement}"),
    ("aid", lambda r: r.aid),
    ("rate", lambda r: _name_rate(r.rate_hz)),
)


class Row(NamedTuple):
    """A score: of which ``group`` ("set", "activity", ...), and of what in it."""

    group: str
    name: str
    score: Score


class Recall(NamedTuple):
    """Share of the true ends that were found, by the time since something.

    Attributes
    ----------
    since
        "start of walking", or "start of readings" if these start, at first or after a gap, less
        than two seconds before somebody walks, or while they do.
    after_s
        End of the stretch of time; it begins at the one before.
    ends, recordings
        How many ends and recordings it rests on.
    recall
        The share; NaN without ends.
    """

    since: str
    after_s: float
    ends: int
    recordings: int
    recall: float


class Reliability(NamedTuple):
    """Of the steps whose end has about the same probability, how many are right.

    Attributes
    ----------
    least, below
        The probability of their ends is at least and below this.
    probability
        Its mean; NaN without steps.
    steps
        How many were found where ends have a time, or where nobody steps.
    right
        The share of them within 187.5 ms of a true end; NaN without steps.
    """

    least: float
    below: float
    probability: float
    steps: int
    right: float


def group_results(results: Sequence[Result]) -> list[Row]:
    """Scores of all results, and by set, person, placement, aid, rate and activity."""
    rows = [Row("all", "", score(results))]
    for group, key in GROUPS:
        parts: dict[str, list[Result]] = {}
        for result in results:
            parts.setdefault(key(result.recording), []).append(result)
        rows += [Row(group, name, score(parts[name])) for name in sorted(parts, key=_order) if name]
    for number, name in enumerate(ACTIVITIES):
        row = Row("activity", name, score(results, number))
        if row.score.recordings:
            rows.append(row)
    return rows


def measure_recall(results: Sequence[Result]) -> list[Recall]:
    """Recall of ends with a time, by the time since walking, or readings, started."""
    found: dict[str, list[list[tuple[int, int]]]] = {
        since: [[] for _ in AFTER_S] for since in ("start of walking", "start of readings")
    }
    for result in results:
        if result.recording.labels not in TIMED or not len(result.true_ends):
            continue
        ends = result.true_ends
        hit = np.isin(np.arange(len(ends)), result.end_pairs[:, 0])
        known = at(result.recording.judged & result.recording.end_known, ends)
        walking = _last_start(ends, _bouts(result))
        readings = _last_start(ends, _reading_starts(result))
        amid = readings > walking - BOUT_S * RATE_HZ
        for since, starts, chosen in (
            ("start of walking", walking, known & ~amid),
            ("start of readings", readings, known & amid),
        ):
            passed_s = (ends - starts) / RATE_HZ
            place = np.searchsorted(AFTER_S, passed_s, "right")
            for number, pairs in enumerate(found[since]):
                mine = chosen & (place == number)
                if mine.any():
                    pairs.append((int(hit[mine].sum()), int(mine.sum())))
    recalls = []
    for since, stretches in found.items():
        for after_s, pairs in zip(AFTER_S, stretches, strict=True):
            hits, ends_in = (
                (sum(column) for column in zip(*pairs, strict=True)) if pairs else (0, 0)
            )
            share = hits / ends_in if ends_in else math.nan
            recalls.append(Recall(since, after_s, ends_in, len(pairs), share))
    return recalls


def measure_reliability(results: Sequence[Result]) -> list[Reliability]:
    """Share of the found steps that are right, by the probability of their end."""
    probability, hit = _judged_ends(results)
    place = np.searchsorted(PROBABILITIES[1:-1], probability, "right")
    return [
        Reliability(
            least,
            below,
            _mean(probability[place == number].tolist()),
            int((place == number).sum()),
            _mean(hit[place == number].tolist()),
        )
        for number, (least, below) in enumerate(pairwise(PROBABILITIES))
    ]


def fit_calibration(results: Sequence[Result]) -> tuple[float, float]:
    """Slope and offset for the log odds of probabilities, so that they say how many are right.

    The most likely ones, after Platt, "Probabilistic outputs for support vector machines", 1999:
    ends are right or wrong as `measure_reliability` has it, each with his targets, which stay off 0
    and 1 by less the more there are. By Newton's method. (1, 0), no change, if all are right, all
    wrong, or those that are right have no higher probability.
    """
    given, right = _judged_ends(results)
    hits, misses = int(right.sum()), int((~right).sum())
    unchanged = 1.0, 0.0
    if not hits or not misses:
        return unchanged
    inner = np.clip(given.astype(np.float64), 1e-4, 1 - 1e-4)
    terms = np.stack([np.log(inner / (1 - inner)), np.ones(len(inner))], axis=1)
    wanted = np.where(right, (hits + 1) / (hits + 2), 1 / (misses + 2))
    found = np.array(unchanged)
    for _ in range(NEWTON_STEPS):
        share = 1 / (1 + np.exp(-terms @ found))
        curvature = (terms * (share * (1 - share))[:, np.newaxis]).T @ terms
        step = np.linalg.lstsq(curvature, terms.T @ (wanted - share))[0]
        found += step.clip(-1, 1)
    slope, offset = found.clip((-20, -50), (20, 50)).tolist()
    return (slope, offset) if slope > 0 else unchanged


def _judged_ends(results: Sequence[Result]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Probabilities of all found ends that are known to be right or wrong, and which are right."""
    given, right = [np.empty(0, np.float32)], [np.empty(0, np.bool_)]
    for result in results:
        recording, found = result.recording, result.found
        if recording.labels in TIMED:
            known = at(recording.judged & recording.end_known, found.ends)
        else:
            known = at(result.stepless, found.ends)
        given.append(found.probabilities[known])
        right.append(np.isin(np.flatnonzero(known), result.end_pairs[:, 1]))
    return np.concatenate(given), np.concatenate(right)


COLUMNS: tuple[tuple[str, Callable[[Score], float], str], ...] = (
    ("people", lambda s: s.people, "{:.0f}"),
    ("rec.", lambda s: s.recordings, "{:.0f}"),
    ("timed", lambda s: s.timed_recordings, "{:.0f}"),
    ("F1 start", lambda s: s.f1_start, "{:.3f}"),
    ("F1 end", lambda s: s.f1_end, "{:.3f}"),
    ("start 100", lambda s: s.f1_start_tight, "{:.3f}"),
    ("end 100", lambda s: s.f1_end_tight, "{:.3f}"),
    ("start ms", lambda s: s.bias_start_ms, "{:+.0f}"),
    ("± ms", lambda s: s.spread_start_ms, "{:.0f}"),
    ("end ms", lambda s: s.bias_end_ms, "{:+.0f}"),
    ("± ms", lambda s: s.spread_end_ms, "{:.0f}"),
    ("counted", lambda s: s.counted_recordings, "{:.0f}"),
    ("true", lambda s: s.true_steps, "{:.0f}"),
    ("found", lambda s: s.found_steps, "{:.0f}"),
    ("signed", lambda s: s.signed_count_error, "{:+.1%}"),
    ("count error", lambda s: s.count_error, "{:.2%}"),
    ("worst", lambda s: s.worst_count_error, "{:.1%}"),
    ("standing", lambda s: s.false_per_standing_minute, "{:.2f}"),
    ("false/min", lambda s: s.false_per_minute, "{:.2f}"),
    ("minutes", lambda s: s.stepless_minutes, "{:.1f}"),
)


def score_table(rows: Sequence[Row], title: str) -> Table:
    """One table of scores, a section for each group; columns without any figure are left out."""
    figures = [[figure(row.score) for _, figure, _ in COLUMNS] for row in rows]
    shown = [n for n in range(len(COLUMNS)) if not all(math.isnan(line[n]) for line in figures)]
    table = Table(
        title=f"{title}: one-to-one matching within 187.5 ms and 100 ms", box=SIMPLE, padding=0
    )
    table.add_column("", no_wrap=True)
    for number in shown:
        table.add_column(COLUMNS[number][0], justify="right", no_wrap=True)
    group = ""
    for row, line in zip(rows, figures, strict=True):
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(f"[b]{group}")
        if row.name:
            table.add_row(f"  {row.name}", *(_format(n, line[n]) for n in shown))
        else:
            table.add_row("", *(_format(n, line[n]) for n in shown))
    people = [line for row, line in zip(rows, figures, strict=True) if row.group == "person"]
    if len(people) > 1:
        table.add_section()
        means = [_mean([line[n] for line in people]) for n in shown]
        table.add_row(
            "mean of people", *(_format(n, mean) for n, mean in zip(shown, means, strict=True))
        )
    return table


def recall_table(recalls: Sequence[Recall]) -> Table:
    """Recall of ends, by the time since a start."""
    table = Table(title="recall of ends within 187.5 ms, by the time since a start")
    for name in ("", "up to s", "recordings", "ends", "recall"):
        table.add_column(name, justify="right")
    for since, after_s, ends, recordings, recall in recalls:
        if ends:
            until = "later" if math.isinf(after_s) else f"{after_s:g}"
            table.add_row(since, until, str(recordings), str(ends), f"{recall:.3f}")
    return table


def reliability_table(classes: Sequence[Reliability], fit: tuple[float, float]) -> Table:
    """How many of the found steps are right, by the probability of their end; the best fit."""
    table = Table(
        title="found steps that are right, by the probability of their end",
        caption=f"log odds x {fit[0]:.2f} {fit[1]:+.2f} fit best",
    )
    for name in ("from", "below", "mean", "steps", "right"):
        table.add_column(name, justify="right")
    for one in classes:
        if one.steps:
            ends = (f"{one.least:g}", f"{one.below:g}", f"{one.probability:.2f}")
            table.add_row(*ends, str(one.steps), f"{one.right:.3f}")
    return table


def to_json(
    rows: Sequence[Row],
    recalls: Sequence[Recall],
    classes: Sequence[Reliability],
    fit: tuple[float, float],
) -> dict[str, Any]:
    """Everything as JSON values; what isn't known is null."""
    return {
        "scores": [
            {"group": row.group, "name": row.name, **_without_nan(asdict(row.score))}
            for row in rows
        ],
        "recall": [_without_nan(one._asdict()) for one in recalls],
        "reliability": [_without_nan(one._asdict()) for one in classes],
        "calibration": list(fit),
    }


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in values.items()
    }


def _bouts(result: Result) -> Iterator[float]:
    """First end of each bout of walking."""
    ends = result.true_ends
    yield float(ends[0])
    yield from ends[1:][np.diff(ends) > BOUT_S * RATE_HZ].tolist()


def _reading_starts(result: Result) -> Iterator[float]:
    """Samples at which readings start, or go on after a gap."""
    yield 0.0
    yield from map(float, result.recording.gaps[:, 1].tolist())


def _last_start(ends: Any, starts: Iterator[float]) -> Any:
    """For each end, the last start before it."""
    ascending = np.array(sorted(starts))
    return ascending[(np.searchsorted(ascending, ends, "right") - 1).clip(0)]


def _name_rate(rate_hz: float) -> str:
    nearest = min(RATES_HZ, key=lambda one: abs(math.log(one / rate_hz)))
    return f"{nearest:g} Hz"


def _order(name: str) -> tuple[float, str]:
    number = name.split(maxsplit=1)[0] if name.endswith(" Hz") else ""
    return (float(number) if number else 0.0, name)


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _format(column: int, value: float) -> str:
    return "" if math.isnan(value) else COLUMNS[column][2].format(value)
