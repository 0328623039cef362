"""Cost against accuracy of several models: a table and a picture.

Each is a model, judged by people and sets that it never saw (``--only``), or a folder of the models
that ``stepstream train --folds`` wrote: each person is scored by the one that was not trained on
them. Costs are measured in turns, model by model, so that other work
on the machine affects all of them.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.model import Inputs, litert, make_inputs
from benchmarks.tradeoff import by_group
from stepstream.commands.evaluate import detector
from stepstream.detection.model import Model
from stepstream.training.evaluation import Score, evaluate_recording, score
from stepstream.training.sets import load_people

if TYPE_CHECKING:
    from stepstream.training.data import LabelledRecording

BATCHES = (1, 256)
ROUNDS = 40
ROUND_S = 0.05
START, END = "#2f855a", "#c53030"
FIGURES = {
    "f1_start": "start",
    "f1_end": "end",
    "f1_start_tight": "start 100",
    "f1_end_tight": "end 100",
    "false_per_standing_minute": "false a minute standing",
}


@dataclass
class Point:
    """One kind of model: scores of people with whole steps, means over all, and costs.

    The means are of sets and placements: the error of counts, and false steps a minute.
    """

    name: str
    path: Path
    hands: list[Score]
    count_error: float
    false_per_minute: float
    us: dict[int, list[float]] = field(default_factory=lambda: {size: [] for size in BATCHES})

    def mean(self, figure: str) -> float:
        """Mean over the people with whole steps."""
        return float(np.mean([getattr(one, figure) for one in self.hands]))

    def median_us(self, size: int) -> float:
        """Cost of a window in a batch of this size."""
        return float(np.median(self.us[size]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="models, or folders of folds")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--only", nargs="*", default=[], help="sets, people or placements")
    parser.add_argument("--plot", type=Path, default=Path("build/frontier.png"))
    options = parser.parse_args()
    recordings = load_people(options.data)
    recordings = [r for r in recordings if not options.only or r.is_of(options.only)]
    points = [_evaluate(path, recordings) for path in options.models]
    _time(points)
    names = ["model", "KB", "batch of 1", "256", *FIGURES.values(), "counts", "false a minute"]
    for row in (names, ["---"] * len(names), *map(_row, points)):
        print(f"| {' | '.join(row)} |")
    _draw(points, options.plot)


def _row(point: Point) -> list[str]:
    return [
        point.name,
        f"{point.path.stat().st_size / 1000:.0f}",
        *(f"{point.median_us(size):.1f}" for size in BATCHES),
        *(f"{point.mean(figure):.3f}" for figure in FIGURES),
        f"{point.count_error:.1%}",
        f"{point.false_per_minute:.2f}",
    ]


def _evaluate(path: Path, recordings: list[LabelledRecording]) -> Point:
    detect = detector(path)
    results = [evaluate_recording(recording, detect(recording)) for recording in recordings]
    scores = [
        score([r for r in results if r.recording.person == person])
        for person in sorted({result.recording.person for result in results})
    ]
    hands = [one for one in scores if not np.isnan(one.f1_start)]
    counts, false = by_group(results)
    name = path.name.removesuffix("-folds").removesuffix(".tflite")
    model = min(path.glob("*.tflite")) if path.is_dir() else path
    return Point(name, model, hands, float(np.nanmean(counts)), float(np.nanmean(false)))


def _time(points: list[Point]) -> None:
    runs = []
    for point in points:
        run = litert("litert float32", point.path, 1)
        inputs = make_inputs([], Model(point.path), max(BATCHES))
        for size in BATCHES:
            part = Inputs(inputs.samples[:size], inputs.past[:size])
            runs.append((run(part), size, point.us[size]))
    for _ in range(ROUNDS):
        for predict, size, times in runs:
            predict()
            begin, count = time.perf_counter(), 0
            while time.perf_counter() - begin < ROUND_S:
                predict()
                count += 1
            times.append((time.perf_counter() - begin) * 1e6 / count / size)


def _draw(points: list[Point], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(14, 4.5), layout="constrained")
    cost = [point.median_us(max(BATCHES)) for point in points]
    start, end = (
        [point.mean(name) for point in points] for name in ("f1_start_tight", "f1_end_tight")
    )
    panels = (
        ("starts and ends within 100 ms", "F1", ((start, "start", START), (end, "end", END))),
        ("counts", "count error, %", (([100 * p.count_error for p in points], "", END),)),
        ("false steps", "a minute", (([p.false_per_minute for p in points], "", END),)),
    )
    every = figure.subplots(1, len(panels), sharex=True)
    for axes, (title, unit, series) in zip(every, panels, strict=True):
        for values, label, color in series:
            axes.scatter(cost, values, color=color, label=label)
            for x, y, point in zip(cost, values, points, strict=True):
                axes.annotate(point.name, (x, y), (4, 4), textcoords="offset points", fontsize=8)
        axes.set(title=title, xlabel="us a window, batch of 256", ylabel=unit)
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    every[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(path)


if __name__ == "__main__":
    main()
