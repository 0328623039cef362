"""DCAITI: a phone in the hand or pocket, and contacts of which only the number is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.sets.files import find_files, read_file
from stepstream.training.sets.labelling import read_feet, with_counts, without_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording
    from stepstream.training.sets.files import RecordingFile

__all__ = ["read"]

FEET_DIFFER = 0.3
"""Recordings are left out whose feet differ by more than this share of the larger number of
contacts: 2 of 19, with 16 and 26, and 2 and 3."""
QUIET = 1.0
"""Standard deviation of the acceleration, m/s^2, below which the phone shows no step.

Recordings without contacts are of a person whose sensors may not have been worn: 5 of 14 have 0.2
to 0.7 and no rhythm, 9 have 1.6 to 3.1 and go on like steps. These 9 are left out. In pieces of 5 s
with at least 5 contacts it is 2.5 in the median and 1.1 at the fifth percentile."""
PIECE = 400
"""Samples of a piece: 5 s."""
UNSEEN = 0.1
"""Recordings with more than this share of contacts in quiet pieces are left out: 3 of 17, with 17
to 31 %, where the sensors show up to 25 contacts in 10 s and the phone hardly moves. The largest
share of the rest is 8 %."""
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
        if _share_unseen(file, np.concatenate(feet)) > UNSEEN:
            continue
        places = np.arange(len(file.axes))
        first, last = min(foot[0] for foot in feet), max(foot[-1] for foot in feet)
        walking = (places >= first - MARGIN) & (places <= last + MARGIN)
        judged = walking | (places < first - REST) | (places > last + REST)
        counts = (sum(sizes), 2 * max(sizes))
        yield with_counts(file, "hand or pocket", counts, judged, walking, device=device)


def _share_unseen(file: RecordingFile, contacts: NDArray[np.float64]) -> float:
    """Share of the contacts in pieces in which the phone shows no step."""
    pieces = range(0, len(file.axes) - PIECE + 1, PIECE)
    unseen = 0
    for first in pieces:
        if file.magnitude[first : first + PIECE].std() < QUIET:
            unseen += int(((contacts >= first) & (contacts < first + PIECE)).sum())
    return unseen / len(contacts)
