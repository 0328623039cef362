"""Steps around gaps: gaps are cut into labelled recordings, and the steps nearby are compared.

``python -m benchmarks.gaps DATA...``: recall by the time since the gap, for several lengths of gaps
and several values of ``max_gap_ms``. A row without ``max_gap_ms`` has the same stretches uncut. In
recordings in which nobody steps, all ends are false ones.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from stepstream.commands.evaluate import model_of
from stepstream.detection import Rules, default_model_path, detect_series
from stepstream.training.contacts import align
from stepstream.training.data import RATE_HZ, LabelledRecording, Labels
from stepstream.training.evaluation import TOLERANCES_MS, match, predict_recording
from stepstream.training.sets import load_people

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from stepstream.detection import Model

    Places = NDArray[np.int64]
    Cut = Callable[[LabelledRecording, int, np.random.Generator], list[int]]

GAPS_S = (0.3, 0.5, 1.0, 2.0)
PERIOD_US = 1_000_000 // RATE_HZ
TOLERANCE = TOLERANCES_MS[0] * RATE_HZ / 1000
DISTANCE_S = 6.0
"""Least time from a gap to the next."""
QUIET_S = 3.0
"""Time without a step after which a walk has ended."""
BEFORE_S, AFTER_S = 0.5, (0.25, 0.5, 1.0, 2.0)
COLUMNS = ("0.5 s before", "in it", "0.25 s after", "0.5 s", "1 s", "2 s")


@dataclass
class Tally:
    """What was found around gaps.

    ``true`` and ``found`` are the true ends, and those of them that were found, by `COLUMNS`.
    ``false`` counts ends that belong to no true one, ``twice`` those of them that are near a true
    one, ``surplus`` found minus true ends. ``all_found`` are those anywhere in the recordings.
    """

    true: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(COLUMNS), np.int64))
    found: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(COLUMNS), np.int64))
    gaps: int = 0
    false: int = 0
    twice: int = 0
    surplus: int = 0
    all_found: int = 0

    def add(self, true: Places, found: Places, begin: int, end: int) -> None:
        """Compare the ends around the gap between two samples."""
        after = [end + round(seconds * RATE_HZ) for seconds in AFTER_S]
        edges = [begin - round(BEFORE_S * RATE_HZ), begin, end, *after]
        pairs = match(true, found, TOLERANCE)
        self.true += np.histogram(true, edges)[0]
        self.found += np.histogram(true[pairs[:, 0]], edges)[0]
        alone = np.delete(found, pairs[:, 1])
        alone = alone[(alone >= edges[0]) & (alone < edges[-1])]
        is_near = np.abs(alone[:, np.newaxis] - true) <= TOLERANCE
        self.gaps += 1
        self.false += len(alone)
        self.twice += int(is_near.any(axis=1).sum())
        self.surplus += int(
            np.histogram(found, edges)[0].sum() - np.histogram(true, edges)[0].sum()
        )


def anywhere(recording: LabelledRecording, length: int, random: np.random.Generator) -> list[int]:
    """Begins of gaps, some seconds apart."""
    margin = round(4 * RATE_HZ)
    step = length + round(DISTANCE_S * RATE_HZ)
    begins = range(margin, len(recording.axes) - length - margin, step)
    return [begin + int(random.integers(RATE_HZ)) for begin in begins]


def at_stops(recording: LabelledRecording, length: int, random: np.random.Generator) -> list[int]:
    """Begins of gaps in which a walk ends."""
    ends, quiet = np.sort(recording.ends), round(QUIET_S * RATE_HZ)
    last = ends[np.diff(ends, append=len(recording.axes)) > quiet].astype(np.int64)
    begins = (last - random.integers(1, length, len(last))).tolist()
    within = range(quiet, len(recording.axes) - length - quiet)
    return [begin for begin in begins if begin in within]


def find_ends(model: Model, recording: LabelledRecording, kept: Any, max_gap_ms: int) -> Places:
    """The ends that a stream counts if it gets these of the samples."""
    places = np.flatnonzero(kept)
    rules = Rules(max_gap_us=max_gap_ms * 1000)
    steps = detect_series(model, places * PERIOD_US, recording.axes[places], rules)
    counted: list[int] = []
    for end in (steps.end_us // PERIOD_US).tolist():
        if not counted or end - counted[-1] >= model.metadata.refractory:
            counted.append(end)
    return np.array(counted, np.int64)


def measure(
    recordings: list[tuple[Model, LabelledRecording]],
    gap_s: float,
    max_gap_ms: int | None,
    cut: Cut,
) -> Tally:
    """Cut gaps into recordings, and compare what is found; without a limit, nothing is cut."""
    tally, length = Tally(), round(gap_s * RATE_HZ)
    for number, (model, recording) in enumerate(recordings):
        begins = cut(recording, length, np.random.default_rng(number))
        kept = np.ones(len(recording.axes), np.bool_)
        if max_gap_ms is not None:
            for begin in begins:
                kept[begin + 1 : begin + length] = False
        found = find_ends(model, recording, kept, max_gap_ms or 250)
        tally.all_found += len(found)
        true = np.sort(recording.ends).astype(np.int64)
        for begin in begins:
            tally.add(true, found, begin, begin + length)
    return tally


def tables(recordings: list[tuple[Model, LabelledRecording]], limits: list[int]) -> Iterator[Table]:
    """A table for gaps anywhere, and one for those in which a walk ends."""
    for title, cut in (("gaps anywhere", anywhere), ("a walk ends in the gap", at_stops)):
        table = Table(title=f"{title}: recall of ends, then ends for each gap")
        for column in ("gap s", "max gap ms", *COLUMNS, "false", "twice", "surplus", "gaps", "all"):
            table.add_column(column, justify="right")
        for gap_s in GAPS_S:
            for limit in (None, *limits):
                tally = measure(recordings, gap_s, limit, cut)
                recall = tally.found / np.maximum(tally.true, 1)
                table.add_row(
                    f"{gap_s}",
                    "uncut" if limit is None else f"{limit:,}",
                    *(f"{share:.2f}" for share in recall),
                    *(f"{count / max(tally.gaps, 1):.2f}" for count in (tally.false, tally.twice)),
                    f"{tally.surplus / max(tally.gaps, 1):+.2f}",
                    f"{tally.gaps:,}",
                    f"{tally.all_found:,}",
                )
            table.add_section()
        yield table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, default=default_model_path(), help="file or folds")
    parser.add_argument(
        "--max-gap-ms", nargs="+", type=int, default=[250, Rules().max_gap_us // 1000]
    )
    options = parser.parse_args()
    choose = model_of(options.model)
    console = Console(width=150)
    for folder in options.data:
        recordings = [(choose(one), one) for one in load_people([folder])]
        aligned = [
            (
                model,
                align(one, predict_recording(model, one)[:, 1])
                if one.labels is Labels.CONTACTS
                else one,
            )
            for model, one in recordings
        ]
        for table in tables(aligned, options.max_gap_ms):
            table.title = f"{folder.name}, {table.title}"
            console.print(table)


if __name__ == "__main__":
    main()
