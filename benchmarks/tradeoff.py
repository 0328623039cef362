"""Count errors against false steps: one curve for each model, over its thresholds.

Thresholds only slide along a curve, so models are compared by their curves, on people, sets and
placements that none of them saw (``--only``). Each row is a pair of thresholds of ends; its figures
are means over sets and placements, so that a large set counts as much as a small one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stepstream.detection import Model
from stepstream.training.evaluation import (
    Moments,
    Result,
    evaluate_recording,
    predict_recording,
    score,
)
from stepstream.training.sets import load_people
from stepstream.training.thresholds import find_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection import ModelMetadata
    from stepstream.training.data import LabelledRecording

ENDS = ((0.2, 0.2), (0.4, 0.25), (0.6, 0.25), (0.7, 0.25), (0.8, 0.25), (0.9, 0.25), (0.98, 0.3))
START = 0.1
APART = 320
"""Samples without probabilities between two recordings, more than the rules look back."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--only", nargs="*", default=[], help="sets, people or placements")
    options = parser.parse_args()
    recordings = load_people(options.data)
    recordings = [r for r in recordings if not options.only or r.is_of(options.only)]
    names = sorted({_group(r) for r in recordings})
    columns = ["model", "ends", "counts", "false a minute", *names]
    for row in (columns, ["---"] * len(columns)):
        print(f"| {' | '.join(row)} |")
    for path in options.models:
        model = Model(path)
        whole = _Whole(model, recordings)
        for end, walking in ENDS:
            thresholds = msgspec.structs.replace(
                model.metadata, start_threshold=START, end_threshold=end, walking_threshold=walking
            )
            cells = _figures(whole.find(thresholds))
            print(f"| {' | '.join([path.stem, f'{end:g}, {walking:g}', *cells])} |", flush=True)


class _Whole:
    """The probabilities of all recordings one after the other: rules look at them at once."""

    def __init__(self, model: Model, recordings: Sequence[LabelledRecording]) -> None:
        self._recordings = recordings
        hop = model.metadata.hop
        parts = [
            np.pad(given[: len(given) // hop * hop], ((0, APART), (0, 0)))
            for given in (predict_recording(model, r) for r in recordings)
        ]
        self._first = np.cumsum([0, *(len(part) for part in parts)])
        self._probabilities = np.concatenate(parts)

    def find(self, metadata: ModelMetadata) -> list[Result]:
        """Steps by these thresholds, compared with the labels."""
        found = find_steps(self._probabilities, metadata)
        edges = np.searchsorted(found.ends, self._first)
        results = []
        for number, recording in enumerate(self._recordings):
            here = slice(edges[number], edges[number + 1])
            first = self._first[number]
            own = Moments(
                found.starts[here] - first, found.ends[here] - first, found.probabilities[here]
            )
            results.append(evaluate_recording(recording, own))
        return results


def _group(recording: LabelledRecording) -> str:
    return f"{recording.origin}, {recording.placement}"


def by_group(results: Sequence[Result]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Count errors and false steps a minute of sets and placements by name; NaN if unknown."""
    names = sorted({_group(r.recording) for r in results})
    scores = [score([r for r in results if _group(r.recording) == name]) for name in names]
    counts = np.array([one.count_error for one in scores])
    return counts, np.array([one.false_per_minute for one in scores])


def _figures(results: Sequence[Result]) -> list[str]:
    """Means of both figures over the groups, and both of each group."""
    counts, false = by_group(results)
    both = [
        " / ".join(
            text for text, value in ((f"{c:.1%}", c), (f"{f:.2f}", f)) if not np.isnan(value)
        )
        for c, f in zip(counts.tolist(), false.tolist(), strict=True)
    ]
    return [f"{np.nanmean(counts):.1%}", f"{np.nanmean(false):.2f}", *both]


if __name__ == "__main__":
    main()
