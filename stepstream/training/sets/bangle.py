"""Bangle.js: a watch with 12.5 Hz; the steps of its walks were counted by hand."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.sets.files import COUNTS_FILE, find_files, read_file
from stepstream.training.sets.labelling import with_counts, without_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepstream.training.data import LabelledRecording

__all__ = ["read"]

DOINGS = {"drive": "driving", "train": "riding a train", "work": "desk work", "still": "still"}


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield its recordings; ``counts.csv`` has their steps. Whose wrist it was is not known."""
    with (folder / COUNTS_FILE).open(encoding="ascii", newline="") as file:
        steps = {row["recording"]: int(row["steps"]) for row in csv.DictReader(file)}
    for path in find_files(folder):
        recording = read_file(path)
        count = steps[recording.name]
        if count:
            everywhere = np.ones(len(recording.axes), np.bool_)
            yield with_counts(
                recording, "wrist", (count, count), everywhere, everywhere, device="watch"
            )
        else:
            doing = DOINGS[recording.name.replace("_", "-").split("-")[0]]
            yield without_steps(recording, "wrist", doing, device="watch")
