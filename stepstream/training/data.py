"""What a labelled recording is, whatever set it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.resampling import resample

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

__all__ = [
    "ACTIVITIES",
    "RATE_HZ",
    "STEPLESS",
    "WITH_STEPS",
    "LabelledRecording",
    "Labels",
    "known_without_steps",
    "resample_series",
]

RATE_HZ = 80
WITH_STEPS = ("walking", "stairs up", "stairs down", "running")
ACTIVITIES = (
    "standing",
    *WITH_STEPS,
    "handling",
    "clapping",
    "raising hands",
    "phoning",
    "opening a door",
    "sitting down",
    "bending",
    "lying down",
    "exercising",
    "seated",
    "still",
    "desk work",
    "driving",
    "riding a train",
)
"""The first five are the numbers of a file's column ``activity``; nobody steps in the rest."""
STEPLESS = [n for n, activity in enumerate(ACTIVITIES) if activity not in WITH_STEPS]


class Labels(StrEnum):
    """What is known of the steps of a recording."""

    STEPS = "steps"
    """When every step starts and ends."""
    CONTACTS = "contacts"
    """When feet touch the ground, but for a constant lag; no starts."""
    ROUGH_CONTACTS = "rough contacts"
    """About when feet touch the ground: the number is right, the times are not."""
    SWINGS = "swings"
    """The rhythm of one leg: two steps a swing, at a phase that isn't known."""
    COUNTS = "counts"
    """Only how many steps there are."""
    NONE = "none"
    """That nobody steps."""


@dataclass(frozen=True, kw_only=True)
class LabelledRecording:
    """A recording at the model's rate with what is known of its steps.

    Attributes
    ----------
    origin
        The set that it comes from.
    person
        Who carries the device: ``<set>/<person>``, so people of two sets are never the same.
    name
        The file's name without suffixes.
    placement, device, aid
        How the device was carried, what it is, and the walking aid ("none" without one); "" if
        it isn't known.
    rate_hz
        Median rate of the device's own samples.
    axes : (n, 6) float32
        Acceleration in m/s^2 with gravity, angular velocity in rad/s (0 without a gyroscope).
    gaps : (k, 2) int64
        First sample of each stretch for which the device sent nothing, and the first after it.
    activity : (n,) int8
        Index in `ACTIVITIES`, -1 where it isn't known.
    labels
        What is known of the steps.
    starts, ends : float64
        Samples at which heels lift and toes strike. With whole steps, both are as long and belong
        together; else there are only ends, and with counts none.
    start_known, end_known : (n,) bool
        Where it is known whether there is one: what may be learned.
    judged : (n,) bool
        Where the number of steps is known: what may be judged.
    counts
        Least and most steps that are right in the judged samples.
    aligned
        Whether a teacher was asked where its steps are; if in doubt, they are not learned.
    session
        Devices that recorded the same walk on one clock have the same name here; "" if it was one.
    first
        The first sample's place on that clock.
    """

    origin: str
    person: str
    name: str
    placement: str
    axes: NDArray[np.float32]
    gaps: NDArray[np.int64]
    activity: NDArray[np.int8]
    labels: Labels
    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    start_known: NDArray[np.bool_]
    end_known: NDArray[np.bool_]
    judged: NDArray[np.bool_]
    counts: tuple[int, int]
    rate_hz: float = float(RATE_HZ)
    device: str = ""
    aid: str = ""
    aligned: bool = False
    session: str = ""
    first: int = 0

    @property
    def standing(self) -> NDArray[np.bool_]:
        """Whether the person stands still, sample by sample."""
        still: NDArray[np.bool_] = self.activity == 0
        return still

    @property
    def stepless(self) -> bool:
        """Whether nobody steps in all that is known of it."""
        return not (self.counts[1] or len(self.ends))

    @property
    def needs_teacher(self) -> bool:
        """Whether it has steps that can be learned only when a teacher has placed them."""
        return self.labels not in {Labels.STEPS, Labels.NONE} and not (
            self.aligned or self.stepless
        )

    def is_of(self, names: Collection[str]) -> bool:
        """Whether its set, person or placement is among some names."""
        return bool({self.origin, self.person, self.placement} & set(names))


def resample_series(
    time_us: NDArray[np.int64], axes: NDArray[np.float32], period_us: int
) -> tuple[int, NDArray[np.float32]]:
    """A series on the grid, as the detector resamples it: place of the first sample, and samples.

    Readings that aren't later than all before them are dropped.
    """
    fresh = np.ones(len(time_us), np.bool_)
    fresh[1:] = time_us[1:] > np.maximum.accumulate(time_us)[:-1]
    time_us, axes = time_us[fresh], axes[fresh]
    samples = resample(
        time_us, axes, np.zeros(1, np.intp), time_us[:1] - 1, axes[:1], period_us=period_us
    )
    return int(samples.place[0]), samples.axes


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
