"""Sets in the format of docs/model.md: whole steps, or contacts of both feet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.training.sets.files import find_files, read_file
from stepstream.training.sets.labelling import (
    read_feet,
    with_contacts,
    with_steps,
    without_steps,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepstream.training.data import LabelledRecording

__all__ = ["read"]


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield recordings with ``.steps.csv`` or ``.contacts.csv``; nobody steps if it is empty.

    A name like ``phone_floor_purse_1`` gives the device and the placement.
    """
    for path in find_files(folder):
        file = read_file(path)
        parts = file.name.split("_")
        placement = parts[-2] if len(parts) > 2 else "hand"
        device = parts[0] if len(parts) > 2 else ""
        if file.label_file("steps").exists():
            yield with_steps(file, placement, device=device)
            continue
        feet = read_feet(file, "contacts")
        if feet:
            yield with_contacts(file, placement, feet, device=device)
        else:
            yield without_steps(file, placement, "handling", device=device)
