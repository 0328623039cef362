"""A recording's file and the label files beside it, on the grid of the model."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stepstream.errors import RecordingError
from stepstream.recordings import TIME_COLUMNS, read_recording
from stepstream.training.data import RATE_HZ, resample_series

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["COUNTS_FILE", "RecordingFile", "find_files", "read_file", "read_marks"]

LABEL_SUFFIXES = ("steps", "contacts", "rough-contacts", "swings", "phases")
COUNTS_FILE = "counts.csv"
"""Numbers of steps, of all recordings of a set; beside the folders of its people."""
LONGEST_STEP_S = 0.25
"""Time between two samples that is no gap: two of a watch with 12.5 Hz may be missing."""


@dataclass(frozen=True)
class RecordingFile:
    """A file's samples at 80 Hz.

    Attributes
    ----------
    path
        The file.
    axes, activity, gaps
        See `LabelledRecording`.
    rate_hz
        Median rate of the file's own samples.
    first, scale
        A label of ``x`` is at sample ``x * scale - first``.
    """

    path: Path
    axes: NDArray[np.float32]
    activity: NDArray[np.int8]
    gaps: NDArray[np.int64]
    rate_hz: float
    first: int
    scale: float

    @property
    def name(self) -> str:
        """The file's name without suffixes."""
        return self.path.name.removesuffix(".gz").removesuffix(".csv")

    @property
    def magnitude(self) -> NDArray[np.float64]:
        """Length of the acceleration, (n,), m/s^2."""
        magnitude: NDArray[np.float64] = np.linalg.norm(self.axes[:, :3].astype(np.float64), axis=1)
        return magnitude

    def label_file(self, kind: str) -> Path:
        """Where its labels of a kind are, if there are any."""
        return self.path.with_name(f"{self.name}.{kind}.csv")

    def to_samples(self, moments: NDArray[np.float64]) -> NDArray[np.float64]:
        """Samples at which moments of a label file are."""
        return moments * self.scale - self.first


def find_files(folder: Path) -> list[Path]:
    """The recordings ``<person>/<recording>.csv.gz`` (or ``.csv``) of a set, in order."""
    paths = sorted([*folder.glob("*/*.csv.gz"), *folder.glob("*/*.csv")])
    endings = tuple(f".{suffix}.csv" for suffix in LABEL_SUFFIXES)
    labels = (*endings, COUNTS_FILE)
    return [path for path in paths if not path.name.endswith(labels)]


def read_file(path: Path) -> RecordingFile:
    """Read a recording and bring it to the grid.

    Raises
    ------
    RecordingError
        It can't be read or lacks a column.
    """
    recording = read_recording(path, RATE_HZ)
    axes = recording.axes.astype(np.float32)
    header, activity = _read_activity(path, len(recording))
    if not set(TIME_COLUMNS) & set(header):
        return RecordingFile(
            path, axes, activity, np.empty((0, 2), np.int64), float(RATE_HZ), 0, 1.0
        )
    time_us = np.rint(recording.time_s * 1e6).astype(np.int64)
    period_us = 1_000_000 // RATE_HZ
    first, samples = resample_series(time_us, axes, period_us)
    latest_us = np.maximum.accumulate(time_us)
    grid_us = (first + np.arange(len(samples))) * period_us
    row = np.searchsorted(latest_us, grid_us).clip(0, len(time_us) - 1)
    passed_us = np.diff(latest_us)
    before = np.flatnonzero(passed_us > LONGEST_STEP_S * 1e6)
    gaps = np.stack([latest_us[before] // period_us + 1, latest_us[before + 1] // period_us], 1)
    return RecordingFile(
        path,
        samples,
        activity[row],
        (gaps - first).clip(0, len(samples)),
        float(1e6 / np.median(passed_us)) if len(passed_us) else float(RATE_HZ),
        first,
        float(RATE_HZ),
    )


def read_marks(path: Path, *columns: str) -> NDArray[np.float64]:
    """Numbers (m, k) in some columns of a label file.

    Raises
    ------
    RecordingError
        It can't be read, lacks a column, or has something else there.
    """
    try:
        with path.open(encoding="ascii", newline="") as file:
            rows = [[float(row[name]) for name in columns] for row in csv.DictReader(file)]
    except KeyError as error:
        raise RecordingError(f"{path}: no column {error.args[0]}") from None
    except (OSError, ValueError, TypeError) as error:
        raise RecordingError(f"{path}: {error}") from None
    return np.array(rows, np.float64).reshape(-1, len(columns))


def _read_activity(path: Path, count: int) -> tuple[list[str], NDArray[np.int8]]:
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).decode().splitlines()
    header = [name.strip().strip('"') for name in lines[0].split(",")]
    if "activity" not in header:
        return header, np.full(count, -1, np.int8)
    place = header.index("activity")
    try:
        return header, np.loadtxt(lines[1:], delimiter=",", usecols=place, ndmin=1).astype(np.int8)
    except ValueError as error:
        raise RecordingError(f"{path}: activity: {error}") from None
