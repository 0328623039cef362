"""Labelled recordings: what a model is trained on and judged by."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stepstream.errors import RecordingError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["LabelledRecording", "load_people"]

COLUMNS = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")


@dataclass(frozen=True)
class LabelledRecording:
    """A recording at the model's rate with its true steps.

    Attributes
    ----------
    person, name
        Whose it is, and the file's name without suffixes.
    axes : (n, 6) float32
        Acceleration in m/s^2 with gravity, angular velocity in rad/s.
    standing : (n,) bool
        Whether the person stands still.
    starts, ends : (m,) int64
        Samples at which the heel lifts and at which the toe strikes, step by step.
    """

    person: str
    name: str
    axes: NDArray[np.float32]
    standing: NDArray[np.bool_]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def load_people(folder: Path) -> list[LabelledRecording]:
    """Read ``<person>/<recording>.csv.gz`` with ``<recording>.steps.csv`` beside it.

    The recording has a row a sample (``activity``, 0 for standing, and six axes), the other file
    a row a step (``start`` and ``end``, counted in samples).

    Raises
    ------
    RecordingError
        There are none, or one lacks a column.
    """
    recordings = [_load(path) for path in sorted(folder.glob("*/*.csv.gz"))]
    if not recordings:
        raise RecordingError(f"{folder}: no <person>/<recording>.csv.gz in it")
    return recordings


def _load(path: Path) -> LabelledRecording:
    name = path.name.removesuffix(".csv.gz")
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            header = file.readline().strip().split(",")
            table = np.loadtxt(file, delimiter=",", dtype=np.float32, ndmin=2)
        with (path.parent / f"{name}.steps.csv").open(encoding="ascii", newline="") as file:
            steps = [(int(row["start"]), int(row["end"])) for row in csv.DictReader(file)]
        axes = table[:, [header.index(column) for column in COLUMNS]]
        standing = table[:, header.index("activity")] == 0
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{path}: {error}") from None
    marks = np.array(sorted(steps, key=lambda step: step[1]), np.int64).reshape(-1, 2)
    return LabelledRecording(path.parent.name, name, axes, standing, marks[:, 0], marks[:, 1])
