"""DCAITI: a phone in the hand or pocket, and contacts of which only the number is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.sets.files import find_files, read_file
from stepstream.training.sets.labelling import read_feet, with_counts, without_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stepstream.training.data import LabelledRecording

__all__ = ["read"]

FEET_DIFFER = 0.3
"""Recordings are left out whose feet differ by more than this share of the larger number of
contacts: 2 of 19, with 16 and 26, and 2 and 3."""
QUIET = 1.0
"""Standard deviation of the acceleration, m/s^2. Recordings without contacts are of a person whose
sensors may not have been worn: 5 of 14 have 0.2 to 0.7 and no rhythm, 9 have 1.6 to 3.1 and go on
like steps. These 9 are left out."""
MARGIN = 40
"""A contact's time is off by up to 0.3 s; samples."""
REST = 160
"""Samples after the last contact of a foot, and before the first, of which nothing is known."""


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield the recordings that can be trusted."""
    for path in find_files(folder):
        file = read_file(path)
        feet = read_feet(file, "rough-contacts")
        device = "phone"
        if not feet:
            if file.magnitude.std() < QUIET:
                yield without_steps(file, "hand or pocket", "handling", device=device)
            continue
        sizes = [len(foot) for foot in feet]
        if max(sizes) - min(sizes) > FEET_DIFFER * max(sizes):
            continue
        places = np.arange(len(file.axes))
        first, last = min(foot[0] for foot in feet), max(foot[-1] for foot in feet)
        walking = (places >= first - MARGIN) & (places <= last + MARGIN)
        judged = walking | (places < first - REST) | (places > last + REST)
        counts = (sum(sizes), 2 * max(sizes))
        yield with_counts(file, "hand or pocket", counts, judged, walking, device=device)
