"""Pictures of a model's scores (extra ``plot``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.errors import StepstreamError
from stepstream.training.data import RATE_HZ, Labels
from stepstream.training.evaluation import TIMED
from stepstream.training.figures import measure_reliability

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from stepstream.training.evaluation import Result

__all__ = ["draw_evaluation"]

HOUR_S = 3600
TRUE, START, END = "#8a97a6", "#2f855a", "#c53030"


def draw_evaluation(path: Path, results: Sequence[Result]) -> None:
    """Draw precision against recall, errors of moments, reliability, and counts over an hour.

    Parameters
    ----------
    path
        Picture to write; its suffix gives the format.
    results
        Of any recordings. Only those with whole steps count for the first two, and those whose
        ends have a time for the last one.

    Raises
    ------
    StepstreamError
        Matplotlib isn't installed.
    """
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - an extra
    except ImportError:
        raise StepstreamError(
            "drawing needs Matplotlib; install it with: pip install 'stepstream[plot]'"
        ) from None
    figure = Figure(figsize=(16, 4), layout="constrained")
    precision, timing, reliability, counts = figure.subplots(1, 4)
    whole = [result for result in results if result.recording.labels is Labels.STEPS]
    if whole:
        _draw_precision(precision, whole)
        _draw_timing(timing, whole)
    _draw_reliability(reliability, results)
    _draw_counts(counts, [result for result in results if result.recording.labels in TIMED])
    figure.savefig(path, dpi=120)


def _draw_precision(axes: Axes, results: Sequence[Result]) -> None:
    true = sum(len(result.recording.ends) for result in results)
    height = np.concatenate([result.found.probabilities for result in results])
    right = np.concatenate(
        [np.isin(np.arange(len(r.found.ends)), r.end_pairs[:, 1]) for r in results]
    )
    hits = np.cumsum(right[np.argsort(-height, kind="stable")])
    axes.plot(hits / true, hits / np.arange(1, len(hits) + 1), color=END)
    axes.set(title="ends, from the most probable down", xlabel="recall", ylabel="precision")
    axes.set_ylim(0.8, 1.01)
    axes.grid(alpha=0.3)


def _draw_timing(axes: Axes, results: Sequence[Result]) -> None:
    bins = np.arange(-193.75, 200, 12.5).tolist()
    for name, color in (("start", START), ("end", END)):
        off: list[float] = []
        for result in results:
            true = result.true_starts if name == "start" else result.true_ends
            got = result.found_starts if name == "start" else result.found.ends
            pairs = result.start_pairs if name == "start" else result.end_pairs
            off += ((got[pairs[:, 1]] - true[pairs[:, 0]]) * 1000 / RATE_HZ).tolist()
        axes.hist(off, bins, histtype="step", color=color, label=name)
    axes.set(title="found minus true moments", xlabel="ms", ylabel="steps")
    axes.legend()
    axes.grid(alpha=0.3)


def _draw_reliability(axes: Axes, results: Sequence[Result]) -> None:
    classes = [one for one in measure_reliability(results) if one.steps]
    axes.plot([0, 1], [0, 1], color=TRUE, lw=1)
    axes.plot([c.probability for c in classes], [c.right for c in classes], "o-", color=END)
    axes.set(title="found steps that are right", xlabel="probability of the end", ylabel="share")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.grid(alpha=0.3)


def _draw_counts(axes: Axes, results: Sequence[Result]) -> None:
    """Recordings one after the other, up to an hour."""
    begin = 0.0
    true, found = 0, 0
    times: list[tuple[float, int]] = [(0.0, 0)]
    truth: list[tuple[float, int]] = [(0.0, 0)]
    for result in results:
        for moment in result.found.ends.tolist():
            found += 1
            times.append((begin + moment / RATE_HZ, found))
        for moment in np.sort(result.recording.ends).tolist():
            true += 1
            truth.append((begin + moment / RATE_HZ, true))
        begin += len(result.recording.axes) / RATE_HZ
        if begin > HOUR_S:
            break
    axes.plot(*np.transpose([(t / 60, n) for t, n in truth]), color=TRUE, lw=4, label="true")
    axes.plot(*np.transpose([(t / 60, n) for t, n in times]), color=END, lw=1, label="found")
    axes.set(title="steps counted", xlabel="minutes", ylabel="steps")
    axes.legend()
    axes.grid(alpha=0.3)
