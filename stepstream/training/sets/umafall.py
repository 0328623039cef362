"""UMAFall: five places at once; swings of one leg, and doings without a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import Labels
from stepstream.training.sets.files import find_files, read_file, read_marks
from stepstream.training.sets.labelling import with_counts, without_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from stepstream.training.data import LabelledRecording
    from stepstream.training.sets.files import RecordingFile

__all__ = ["read"]

PLACEMENTS = {"rightpocket": "pocket"}
WALKS = {
    "walking": "walking",
    "jogging": "running",
    "goupstairs": "stairs up",
    "godownstairs": "stairs down",
}
DOINGS = {
    "aplausing": "clapping",
    "handsup": "raising hands",
    "makingacall": "phoning",
    "openingdoor": "opening a door",
    "sitting": "sitting down",
    "bending": "bending",
    "lyingdown": "lying down",
}
SWING = 1.5
"""Angular velocity of an ankle, rad/s, from which the foot may step: in walks it exceeds 4."""
AROUND = 160
"""Samples before and after such a moment that are left out at all places: the clocks of the phone
and the sensors differ by up to a second or two."""
STRIDES = (0.6, 1.6)
"""Shortest and longest stride, as a share of the usual one, without a swing too many or missed."""
CONTACT = 0.275
"""Shares of a stride from a swing to the contact; the other foot's follows half a stride later."""


def read(folder: Path) -> Iterator[LabelledRecording]:
    """Yield the trials that can be trusted.

    A walk needs at least three strides, all of usual length. Other doings are without a step where
    the ankle is quiet. If there is no sensor at the ankle, they are left out.
    """
    for path in find_files(folder):
        name = path.name.removesuffix(".csv.gz")
        session, place = name.rsplit("_", 1)
        doing = session.rsplit("_", 1)[0]
        doing = doing.split("_")[0]
        file = read_file(path)
        placement = PLACEMENTS.get(place, place)
        device = "phone" if placement == "pocket" else "sensor"
        if doing in WALKS:
            swings = _read_swings(file)
            if _are_regular(swings):
                yield _with_swings(
                    file, placement, swings, WALKS[doing], device=device, session=session
                )
            continue
        ankle = path.with_name(f"{name.removesuffix(place)}ankle.csv.gz")
        if ankle.exists():
            sure = ~_may_step(read_file(ankle), file)
            if sure.any():
                yield without_steps(file, placement, DOINGS[doing], sure, device=device)


def _read_swings(file: RecordingFile) -> NDArray[np.float64]:
    path = file.label_file("swings")
    return file.to_samples(read_marks(path, "time")[:, 0]) if path.exists() else np.empty(0)


def _are_regular(swings: NDArray[np.float64]) -> bool:
    if len(swings) < 4:
        return False
    strides = np.diff(swings) / np.median(np.diff(swings))
    return bool(strides.min() >= STRIDES[0] and strides.max() <= STRIDES[1])


def _with_swings(
    file: RecordingFile,
    placement: str,
    swings: NDArray[np.float64],
    activity: str,
    **about: str,
) -> LabelledRecording:
    """Judged from the first swing to the last: two steps a stride, one may lie across an end."""
    places = np.arange(len(file.axes))
    judged = (places >= swings[0]) & (places < swings[-1])
    steps = 2 * (len(swings) - 1)
    strides = np.diff(swings)
    ends = np.sort(np.concatenate([swings[:-1] + (CONTACT + more) * strides for more in (0, 0.5)]))
    counts = (steps - 1, steps + 1)
    return with_counts(
        file, placement, counts, judged, judged, activity,
        labels=Labels.SWINGS, ends=ends, **about,
    )  # fmt: skip


def _may_step(ankle: RecordingFile, file: RecordingFile) -> NDArray[np.bool_]:
    """Where a step may hide, in samples of another place's file."""
    moves = np.linalg.norm(ankle.axes[:, 3:], axis=1) > SWING
    near = np.convolve(moves, np.ones(2 * AROUND + 1), "same") > 0.5
    offset = ankle.first - file.first
    source = np.arange(len(file.axes)) - offset
    inside = (source >= 0) & (source < len(near))
    return np.where(inside, near[source.clip(0, len(near) - 1)], True)
