"""Labelled recordings, to train and evaluate a model."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.resampling import resample
from stepstream.errors import RecordingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["ACTIVITIES", "LabelledRecording", "load_people", "resample_series"]

COLUMNS = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
ACTIVITIES = ("standing", "walking", "stairs up", "stairs down")
RATE_HZ = 80
BOUNCE = 0.6
"""A contact that follows the same foot's last one in less than this share of its usual interval is
a bounce of the sensor."""


@dataclass(frozen=True)
class LabelledRecording:
    """A recording at the model's rate with what is known of its steps.

    Attributes
    ----------
    person, name
        The person, and the file's name without suffixes.
    placement
        How the sensor was carried: the last part but one of a name like ``phone_floor_place_1``,
        "hand" if the name has no such parts.
    axes : (n, 6) float32
        Acceleration in m/s^2 with gravity, angular velocity in rad/s (0 without a gyroscope).
    activity : (n,) int8
        Index in `ACTIVITIES`, -1 where it isn't known.
    starts, ends : float64
        Samples at which heels lift and toes strike. With whole steps, both are as long and
        belong together; with foot contacts, there are only ends.
    start_known, end_known : (n,) bool
        Where it is known whether there is one.
    counts
        Least and most steps that are right; equal with whole steps.
    contacts_only
        Whether the labels are foot contacts.
    aligned
        Whether the lag of the contacts was found and removed.
    """

    person: str
    name: str
    placement: str
    axes: NDArray[np.float32]
    activity: NDArray[np.int8]
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    start_known: NDArray[np.bool_]
    end_known: NDArray[np.bool_]
    counts: tuple[int, int]
    contacts_only: bool = False
    aligned: bool = False

    @property
    def standing(self) -> NDArray[np.bool_]:
        """Whether the person stands still, sample by sample."""
        still: NDArray[np.bool_] = self.activity == 0
        return still


def load_people(folders: Sequence[Path]) -> list[LabelledRecording]:
    """Read ``<person>/<recording>.csv.gz`` (or ``.csv``) with its labels beside it.

    A recording has the columns ``accel_x`` ... ``gyro_z`` (the gyroscope may be missing) and
    optionally ``activity`` (0 standing, 1 walking, 2 stairs up, 3 stairs down) and ``time`` in
    seconds; without a time, row i is at i / 80 s. Labels are either steps,
    ``<recording>.steps.csv`` with ``start`` and ``end`` (in seconds if the recording has times,
    else in rows), or foot contacts, ``<recording>.contacts.csv`` with ``time`` and ``foot``.
    There nobody steps if it has no rows.

    Raises
    ------
    RecordingError
        There are none, or one can't be read or lacks a column.
    """
    recordings = []
    for folder in folders:
        paths = sorted([*folder.glob("*/*.csv.gz"), *folder.glob("*/*.csv")])
        signals = [p for p in paths if not p.name.endswith((".steps.csv", ".contacts.csv"))]
        if not signals:
            raise RecordingError(f"{folder}: no <person>/<recording>.csv.gz in it")
        recordings += [_load(path) for path in signals]
    return recordings


def _load(path: Path) -> LabelledRecording:
    name = path.name.removesuffix(".gz").removesuffix(".csv")
    try:
        text = path.read_bytes()
        lines = (gzip.decompress(text) if path.suffix == ".gz" else text).decode().splitlines()
        header = lines[0].split(",")
        table = np.loadtxt(lines[1:], delimiter=",", ndmin=2)
        axes = np.zeros((len(table), 6), np.float32)
        for place, column in enumerate(COLUMNS):
            if column in header or place < 3:
                axes[:, place] = table[:, header.index(column)]
        activity = np.full(len(table), -1, np.int8)
        if "activity" in header:
            activity = table[:, header.index("activity")].astype(np.int8)
        scale, first = 1.0, 0
        if "time" in header:
            time_us = np.rint(table[:, header.index("time")] * 1e6).astype(np.int64)
            axes, activity, first = _to_grid(time_us, axes, activity)
            scale = RATE_HZ
        steps = path.with_name(f"{name}.steps.csv")
        if steps.exists():
            marks = _read(steps, "start", "end") * scale - first
            return _with_steps(path, name, axes, activity, marks)
        contacts = _read(path.with_name(f"{name}.contacts.csv"), "time", "foot")
        return _with_contacts(path, name, axes, activity, contacts, first)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise RecordingError(f"{path}: {error}") from None


def resample_series(
    time_us: NDArray[np.int64], axes: NDArray[np.float32], period_us: int
) -> tuple[int, NDArray[np.float32]]:
    """A series on the grid, as the detector resamples it: place of the first sample, and samples.

    Readings that aren't later than all before them are dropped.
    """
    fresh = np.ones(len(time_us), np.bool_)
    fresh[1:] = time_us[1:] > np.maximum.accumulate(time_us)[:-1]
    time_us, axes = time_us[fresh], axes[fresh]
    previous_us = np.concatenate([time_us[:1] - 1, time_us[:-1]])
    previous = np.concatenate([axes[:1], axes[:-1]])
    samples = resample(time_us, axes, previous_us, previous, period_us)
    return int(samples.place[0]), samples.axes


def _to_grid(
    time_us: NDArray[np.int64], axes: NDArray[np.float32], activity: NDArray[np.int8]
) -> tuple[NDArray[np.float32], NDArray[np.int8], int]:
    period_us = 1_000_000 // RATE_HZ
    first, samples = resample_series(time_us, axes, period_us)
    grid_us = (first + np.arange(len(samples))) * period_us
    row = np.searchsorted(np.maximum.accumulate(time_us), grid_us).clip(0, len(time_us) - 1)
    return samples, activity[row], first


def _read(path: Path, first: str, second: str) -> NDArray[np.float64]:
    with path.open(encoding="ascii", newline="") as file:
        rows = [(float(row[first]), float(row[second])) for row in csv.DictReader(file)]
    return np.array(rows, np.float64).reshape(-1, 2)


def _with_steps(
    path: Path,
    name: str,
    axes: NDArray[np.float32],
    activity: NDArray[np.int8],
    marks: NDArray[np.float64],
) -> LabelledRecording:
    marks = marks[np.argsort(marks[:, 1], kind="stable")]
    known = np.ones(len(axes), np.bool_)
    return LabelledRecording(
        path.parent.name,
        name,
        _placement(name),
        axes,
        activity,
        marks[:, 0],
        marks[:, 1],
        known,
        known,
        (len(marks), len(marks)),
    )


def _with_contacts(
    path: Path,
    name: str,
    axes: NDArray[np.float32],
    activity: NDArray[np.int8],
    contacts: NDArray[np.float64],
    first: int,
) -> LabelledRecording:
    if not len(contacts):
        known, nothing = np.ones(len(axes), np.bool_), np.empty(0)
        return LabelledRecording(
            path.parent.name,
            name,
            _placement(name),
            axes,
            activity,
            nothing,
            nothing,
            known,
            known,
            (0, 0),
            contacts_only=True,
        )
    feet = [np.sort(contacts[contacts[:, 1] == foot, 0]) for foot in np.unique(contacts[:, 1])]
    if len(feet) != 2:
        raise ValueError("the contacts are not of two feet")
    sizes = [len(foot) for foot in feet]
    ends = np.sort(np.concatenate([_without_bounces(foot) for foot in feet])) * RATE_HZ - first
    start_known, end_known = known_without_steps(len(axes), ends)
    return LabelledRecording(
        path.parent.name,
        name,
        _placement(name),
        axes,
        activity,
        np.empty(0),
        ends,
        start_known,
        end_known,
        (sum(sizes), 2 * max(sizes)),
        contacts_only=True,
    )


def known_without_steps(
    length: int, ends: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where starts and where ends are known, if only some ends are labelled.

    Ends are known while somebody walks. Well before and after, both are known to be absent. Near
    the first and the last contact nothing is known, because a contact may be missing.
    """
    start_known, end_known = np.ones((2, length), np.bool_)
    first, last = int(ends[0]), int(ends[-1])
    start_known[max(0, first - 160) : last + 100] = False
    end_known[max(0, first - 100) : max(0, first - 40)] = False
    end_known[last + 40 : last + 100] = False
    return start_known, end_known


def _without_bounces(times: NDArray[np.float64]) -> NDArray[np.float64]:
    least = BOUNCE * float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    kept: list[float] = []
    for time in times.tolist():
        if not kept or time - kept[-1] >= least:
            kept.append(time)
    return np.array(kept)


def _placement(name: str) -> str:
    parts = name.split("_")
    return parts[-2] if len(parts) > 2 else "hand"
