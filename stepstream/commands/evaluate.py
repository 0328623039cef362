"""``stepstream evaluate``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console
from rich.table import Table

from stepstream.detection import Model
from stepstream.errors import SettingsError
from stepstream.settings import CommandSettings
from stepstream.training.data import load_people
from stepstream.training.evaluation import Score, score_recordings

__all__ = ["Evaluate", "score_table"]


class Evaluate(CommandSettings):
    """Score a model on labelled recordings, person by person, with the detector of the stream."""

    model_file: CliPositionalArg[Path]
    """The model."""
    data: CliPositionalArg[Path]
    """Folder of recordings, as for `stepstream train`."""
    people: list[str] = Field(default_factory=list)
    """People to score; all if not set."""

    def execute(self) -> int:
        """Score and print a table."""
        recordings = load_people(self.data)
        known = {recording.person for recording in recordings}
        unknown = sorted(set(self.people) - known)
        if unknown:
            raise SettingsError(f"people: no {unknown[0]} among {', '.join(sorted(known))}")
        chosen = [r for r in recordings if not self.people or r.person in self.people]
        Console(width=110).print(score_table(score_recordings(Model(self.model_file), chosen)))
        return 0


def score_table(scores: dict[str, Score]) -> Table:
    """Scores of people, and their mean."""
    table = Table(title="one-to-one matching within 187.5 ms and 100 ms")
    table.add_column("person")
    for column in (
        "F1 start", "F1 end", "F1 start 100", "F1 end 100", "true", "found", "count error",
        "false/min standing",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    rows = []
    for person, score in scores.items():
        figures = (
            score.f1_start,
            score.f1_end,
            score.f1_start_tight,
            score.f1_end_tight,
            score.true_steps,
            score.found_steps,
            score.count_error,
            score.false_per_standing_minute,
        )
        rows.append(figures)
        table.add_row(person, *_format(figures))
    if len(rows) > 1:
        table.add_section()
        table.add_row("mean", *_format(tuple(np.mean(rows, axis=0).tolist())))
    return table


def _format(figures: tuple[float, ...]) -> list[str]:
    f1, (true, found, error, false) = figures[:4], figures[4:]
    return [
        *(f"{x:.3f}" for x in f1),
        f"{true:.0f}",
        f"{found:.0f}",
        f"{error:.1%}",
        f"{false:.2f}",
    ]
