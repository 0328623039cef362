"""``stepstream evaluate``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.progress import track

from stepstream.detection import Model
from stepstream.errors import SettingsError
from stepstream.settings import CommandSettings
from stepstream.settings.groups import in_unit
from stepstream.training.evaluation import TIMED, detect_with, evaluate_recording
from stepstream.training.figures import (
    fit_calibration,
    group_results,
    measure_recall,
    measure_reliability,
    recall_table,
    reliability_table,
    score_table,
    to_json,
)
from stepstream.training.interruptions import interrupt
from stepstream.training.peaks import fit_peaks
from stepstream.training.sets import load_people

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.training.data import LabelledRecording
    from stepstream.training.evaluation import Detect, Moments, Result

__all__ = ["TABLE_WIDTH", "Evaluate", "check_names", "detector", "model_of"]


TABLE_WIDTH = 210


class Evaluate(CommandSettings):
    """Score a model on labelled recordings with the detector of the stream."""

    model_file: CliPositionalArg[Path]
    """The model, or a folder of models that `stepstream train --folds` wrote: then each recording is scored by the model that was not trained on its person or set."""
    data: CliPositionalArg[list[Path]] = Field(min_length=1)
    """Sets of recordings, or folders of sets, as for `stepstream train`."""
    only: list[str] = Field(default_factory=list)
    """Sets, people (`set/person`) or placements to score; all if not set."""
    peaks: bool = False
    """Score a peak detector too, which sees each recording as a whole and knows all labels."""
    gap_s: float = Field(0.0, ge=0, le=10, json_schema_extra=in_unit("s"))
    """Leave out so many seconds of readings every 30 s, in recordings whose steps have times, to see what is found after a gap."""
    plot: Path | None = None
    """Picture to draw: precision and recall, timing, how many steps are right by their probability, and counts over an hour."""
    print_json: bool = Field(False, alias="json")
    """Print the figures as JSON."""

    def execute(self) -> int:
        """Score and print one table by set, person, placement, walking aid, rate and activity."""
        recordings = load_people(self.data)
        check_names("only", self.only, recordings)
        chosen = [r for r in recordings if not self.only or r.is_of(self.only)]
        if self.gap_s:
            chosen = [interrupt(r, self.gap_s) for r in chosen if r.labels in TIMED]
        detect = detector(self.model_file)
        results = [
            evaluate_recording(recording, detect(recording))
            for recording in track(chosen, "detecting", console=Console(stderr=True))
        ]
        self._print("", results)
        if self.peaks:
            baseline = fit_peaks(chosen)
            self._print("peak detector", [evaluate_recording(r, baseline(r)) for r in chosen])
        if self.plot:
            from stepstream.training.pictures import draw_evaluation  # noqa: PLC0415 - an extra

            draw_evaluation(self.plot, results)
        return 0

    def _print(self, title: str, results: Sequence[Result]) -> None:
        rows, recalls = group_results(results), measure_recall(results)
        classes, fit = measure_reliability(results), fit_calibration(results)
        if self.print_json:
            sys.stdout.write(json.dumps(to_json(rows, recalls, classes, fit)) + "\n")
            return
        console = Console(width=TABLE_WIDTH)
        console.print(score_table(rows, title or self.model_file.name))
        console.print(recall_table(recalls))
        console.print(reliability_table(classes, fit))
        worst = rows[0].score
        if worst.worst_recording:
            console.print(f"worst: {worst.worst_recording}, {worst.worst_count_error:.1%}")


def check_names(
    setting: str, names: Sequence[str], recordings: Sequence[LabelledRecording]
) -> None:
    """Raise if a name is no set, person or placement of the recordings.

    Raises
    ------
    SettingsError
        The message has the known names.
    """
    known = {name for r in recordings for name in (r.origin, r.person, r.placement)}
    unknown = sorted(set(names) - known)
    if unknown:
        raise SettingsError(f"{setting}: no {unknown[0]} among {', '.join(sorted(known))}")


def detector(model_file: Path) -> Detect:
    """Detection by a model, or of each recording by the model of a folder not trained on it.

    See `model_of` for what is raised.
    """
    choose = model_of(model_file)

    def detect(recording: LabelledRecording) -> Moments:
        return detect_with(choose(recording))(recording)

    return detect


def model_of(model_file: Path) -> Callable[[LabelledRecording], Model]:
    """The model of a file, or for each recording the model of a folder not trained on its like.

    Raises
    ------
    ModelError
        A file can't be read.
    SettingsError
        When it is used: all models of the folder were trained on its person, set and placement.
    """
    if not model_file.is_dir():
        model = Model(model_file)
        return lambda _: model
    by_left_out: dict[str, Model] = {}
    for path in sorted(model_file.glob("*.tflite")):
        model = Model(path)
        for name in model.metadata.training.get("left out", "").split(", "):
            by_left_out[name] = model

    def choose(recording: LabelledRecording) -> Model:
        for name in (recording.person, recording.origin, recording.placement):
            if name in by_left_out:
                return by_left_out[name]
        raise SettingsError(f"{model_file}: no model in it was trained without {recording.person}")

    return choose
