"""GEOTEC: pocket and wrist at once; phases are labelled, and steps are where both show them."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import numpy as np

from stepstream.errors import RecordingError
from stepstream.training.peaks import find_peaks
from stepstream.training.sets.files import find_files, read_file
from stepstream.training.sets.labelling import code, with_counts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording
    from stepstream.training.sets.files import RecordingFile

__all__ = ["read"]

DEVICES = {"pocket": "phone", "wrist": "watch"}
PEAKS_DIFFER = 1
"""Peaks by which the two devices may differ if the number of steps is to be trusted."""


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield its recordings: seated there is no step, and the walk has as many as both devices show.

    The walk is from rising to sitting down. Where the devices disagree, only seated samples are
    judged.
    """
    for path in find_files(folder):
        file = read_file(path)
        session, place = file.name.rsplit("_", 1)
        other = "wrist" if place == "pocket" else "pocket"
        seated, walk = _read_phases(file)
        beside = path.with_name(path.name.replace(f"_{place}.", f"_{other}."))
        counts = (0, 0)
        judged = seated
        if beside.exists() and walk.any():
            peaks = [_count_peaks(file, walk), _count_peaks(read_file(beside), walk)]
            if max(peaks) - min(peaks) <= PEAKS_DIFFER:
                counts, judged = (min(peaks), max(peaks)), seated | walk
        made = with_counts(
            file, place, counts, judged, walk, device=DEVICES[place], session=session
        )
        made.activity[seated] = code("seated")
        yield made


def _read_phases(file: RecordingFile) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    path = file.label_file("phases")
    try:
        with path.open(encoding="ascii", newline="") as rows:
            phases = [
                (float(r["start"]), float(r["end"]), r["phase"]) for r in csv.DictReader(rows)
            ]
    except (OSError, ValueError, KeyError) as error:
        raise RecordingError(f"{path}: {error}") from None
    places = np.arange(len(file.axes))
    seated, walk = np.zeros((2, len(file.axes)), np.bool_)
    for start, end, phase in phases:
        first, last = file.to_samples(np.array([start, end]))
        inside = (places >= first) & (places < last)
        seated |= inside & (phase == "seated")
        walk |= inside & (phase in {"walking", "turning"})
    return seated, walk


def _count_peaks(file: RecordingFile, walk: NDArray[np.bool_]) -> int:
    peaks = find_peaks(file.magnitude)
    return int(walk[peaks[peaks < len(walk)]].sum())
