"""``stepstream evaluate``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from stepstream.detection import Model
from stepstream.errors import SettingsError
from stepstream.settings import CommandSettings
from stepstream.training.data import load_people
from stepstream.training.evaluation import Score, detect_with, evaluate_recording, score
from stepstream.training.peaks import fit_peaks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.training.data import LabelledRecording
    from stepstream.training.evaluation import Detect, Moments, Result

__all__ = ["Evaluate", "detector", "model_of", "score_table"]


class Evaluate(CommandSettings):
    """Score a model on labelled recordings with the detector of the stream."""

    model_file: CliPositionalArg[Path]
    """The model, or a folder of models that `stepstream train --folds` wrote: then each person is scored by the model that was not trained on them."""
    data: CliPositionalArg[list[Path]] = Field(min_length=1)
    """Folders of recordings, as for `stepstream train`."""
    people: list[str] = Field(default_factory=list)
    """People to score; all if not set."""
    peaks: bool = False
    """Score a peak detector too, which sees each recording as a whole and knows all labels."""
    plot: Path | None = None
    """Picture to draw: precision and recall, timing, and counts over an hour."""

    def execute(self) -> int:
        """Score and print tables by person, activity and placement."""
        recordings = load_people(self.data)
        known = {recording.person for recording in recordings}
        unknown = sorted(set(self.people) - known)
        if unknown:
            raise SettingsError(f"people: no {unknown[0]} among {', '.join(sorted(known))}")
        chosen = [r for r in recordings if not self.people or r.person in self.people]
        detect = detector(self.model_file)
        console = Console(width=150)
        results = [
            evaluate_recording(recording, detect(recording))
            for recording in track(chosen, "detecting", console=Console(stderr=True))
        ]
        _print(console, "", results)
        if self.peaks:
            baseline = fit_peaks(chosen)
            _print(console, "peak detector, ", [evaluate_recording(r, baseline(r)) for r in chosen])
        if self.plot:
            from stepstream.training.pictures import draw_evaluation  # noqa: PLC0415 - an extra

            draw_evaluation(self.plot, results)
        return 0


def detector(model_file: Path) -> Detect:
    """Detection by a model, or of each person by the model of a folder not trained on them.

    See `model_of` for what is raised.
    """
    choose = model_of(model_file)

    def detect(recording: LabelledRecording) -> Moments:
        return detect_with(choose(recording))(recording)

    return detect


def model_of(model_file: Path) -> Callable[[LabelledRecording], Model]:
    """The model of a file, or for each recording the model of a folder not trained on its person.

    Raises
    ------
    ModelError
        A file can't be read.
    SettingsError
        When it is used: all models of the folder were trained on that person.
    """
    if not model_file.is_dir():
        model = Model(model_file)
        return lambda _: model
    by_person: dict[str, Model] = {}
    for path in sorted(model_file.glob("*.tflite")):
        model = Model(path)
        for person in model.metadata.training.get("left out", "").split(", "):
            by_person[person] = model

    def choose(recording: LabelledRecording) -> Model:
        if recording.person not in by_person:
            raise SettingsError(
                f"{model_file}: no model in it was trained without {recording.person}"
            )
        return by_person[recording.person]

    return choose


def _print(console: Console, prefix: str, results: Sequence[Result]) -> None:
    def by(key: Callable[[Result], str]) -> dict[str, Score]:
        names = sorted({key(result) for result in results})
        return {name: score([r for r in results if key(r) == name]) for name in names}

    console.print(score_table(by(lambda r: r.recording.person), f"{prefix}by person"))
    console.print(score_table(by(lambda r: r.recording.placement), f"{prefix}by placement"))
    total = score(results)
    if total.activities:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in total.activities.items())
        console.print(f"{prefix}F1 of ends by activity: {figures}")


COLUMNS: tuple[tuple[str, Callable[[Score], float], str], ...] = (
    ("F1 start", lambda s: s.f1_start, "{:.3f}"),
    ("F1 end", lambda s: s.f1_end, "{:.3f}"),
    ("start 100", lambda s: s.f1_start_tight, "{:.3f}"),
    ("end 100", lambda s: s.f1_end_tight, "{:.3f}"),
    ("start ms", lambda s: s.bias_start_ms, "{:+.0f}"),
    ("± ms", lambda s: s.spread_start_ms, "{:.0f}"),
    ("end ms", lambda s: s.bias_end_ms, "{:+.0f}"),
    ("± ms", lambda s: s.spread_end_ms, "{:.0f}"),
    ("true", lambda s: s.true_steps, "{:.0f}"),
    ("found", lambda s: s.found_steps, "{:.0f}"),
    ("count error", lambda s: s.count_error, "{:.2%}"),
    ("worst", lambda s: s.worst_count_error, "{:.1%}"),
    ("false/min", lambda s: s.false_per_standing_minute, "{:.2f}"),
)


def score_table(scores: dict[str, Score], title: str) -> Table:
    """Scores of people or placements, and their mean."""
    table = Table(title=f"{title}: one-to-one matching within 187.5 ms and 100 ms")
    table.add_column("")
    for name, _, _ in COLUMNS:
        table.add_column(name, justify="right")
    rows = [[figure(one) for _, figure, _ in COLUMNS] for one in scores.values()]
    for name, row in zip(scores, rows, strict=True):
        table.add_row(name, *_format(row))
    if len(rows) > 1:
        columns = [[x for x in column if not math.isnan(x)] for column in zip(*rows, strict=True)]
        table.add_section()
        mean = [float(np.mean(column)) if column else math.nan for column in columns]
        table.add_row("mean", *_format(mean))
    return table


def _format(row: Sequence[float]) -> list[str]:
    return [
        "" if math.isnan(value) else form.format(value)
        for value, (_, _, form) in zip(row, COLUMNS, strict=True)
    ]
