"""Recordings with known steps, and what is found in them."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import LabelledRecording, Labels
from stepstream.training.evaluation import Moments

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def recording(length: int = 4000, person: str = "p") -> LabelledRecording:
    """A device that swings in step, every 44 samples."""
    samples = np.arange(length)
    axes = np.zeros((length, 6), np.float32)
    axes[:, 2] = 9.81 + 3 * np.cos(2 * np.pi * samples / 44)
    axes[:, 3] = np.sin(2 * np.pi * samples / 88)
    ends = np.arange(200.0, length - 100, 44)
    known = np.ones(length, np.bool_)
    return LabelledRecording(
        origin="set",
        person=person,
        name="r",
        placement="hand",
        axes=axes,
        gaps=np.empty((0, 2), np.int64),
        activity=np.ones(length, np.int8),
        labels=Labels.STEPS,
        starts=ends - 69,
        ends=ends,
        start_known=known,
        end_known=known,
        judged=known,
        counts=(len(ends), len(ends)),
    )


def moments(starts: NDArray[np.float64], ends: NDArray[np.float64]) -> Moments:
    """Steps that were found."""
    ones = np.ones(len(ends), np.float32)
    return Moments(starts.astype(np.int64), ends.astype(np.int64), ones)


def write(folder: Path, name: str, header: str, rows: list[str]) -> None:
    """Write a CSV file, compressed if its name says so."""
    folder.mkdir(exist_ok=True, parents=True)
    text = "\n".join([header, *rows]) + "\n"
    content = gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()
    (folder / name).write_bytes(content)
