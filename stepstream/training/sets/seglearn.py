"""The watch data set of seglearn: shoulder exercises, no step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.training.sets.files import find_files, read_file
from stepstream.training.sets.labelling import without_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepstream.training.data import LabelledRecording

__all__ = ["read"]


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield its recordings; people stand and move one arm."""
    for path in find_files(folder):
        yield without_steps(read_file(path), "wrist", "exercising", device="watch")
