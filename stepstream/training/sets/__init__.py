"""Readers of sets of labelled recordings: one module for each way in which sets are written.

A reader knows the names of its set's files, and how far to trust its labels. What it returns is
alike for all sets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stepstream.errors import RecordingError
from stepstream.training.sets import bangle, dcaiti, geotec, plain, seglearn, umafall, weallwalk
from stepstream.training.sets.files import find_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stepstream.training.data import LabelledRecording

__all__ = ["load_people"]


class Reader(Protocol):
    """Reads a set."""

    def __call__(self, folder: Path) -> Iterator[LabelledRecording]:
        """Yield the recordings of a folder whose labels can be trusted."""


READERS: dict[str, Reader] = {
    "bangle": bangle.read,
    "dcaiti": dcaiti.read,
    "geotec": geotec.read,
    "seglearn-watch": seglearn.read,
    "umafall": umafall.read,
    "weallwalk": weallwalk.read,
}
"""By the folder's name; all other folders are read by `plain`."""


def load_people(folders: Sequence[Path]) -> list[LabelledRecording]:
    """Read sets of recordings.

    Parameters
    ----------
    folders
        Each a set, ``<set>/<person>/<recording>.csv.gz`` with labels beside it, or a folder of
        sets.

    Raises
    ------
    RecordingError
        There are none, or one can't be read or lacks a column.
    """
    recordings = []
    for folder in folders:
        sets = [folder] if find_files(folder) else sorted(filter(find_files, folder.glob("*/")))
        if not sets:
            raise RecordingError(f"{folder}: no <person>/<recording>.csv.gz in it")
        for one in sets:
            recordings += list(READERS.get(one.resolve().name, plain.read)(one))
    return recordings
