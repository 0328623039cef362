"""Short gaps are bridged: a movement as quick as walking goes on in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from stepstream.detection.model import MAGNITUDES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings
    from stepstream.detection.resampling import Samples
    from stepstream.detection.samples import SampleRings
    from stepstream.detection.windows import Admitted

__all__ = ["Gap", "bridge_gaps", "bridge_samples", "find_gaps"]

SHORTEST_LAG_US, LONGEST_LAG_US = 400_000, 1_200_000
"""A step of a quick walk, and the two steps of a slow one."""
COMPARED_US = 300_000
"""Length of the movement that is compared with the movement one lag earlier."""
CHANGE_US = 150_000
"""Time after which a walk's acceleration has little to do with what it was."""
LEAST_CHANGE = 0.75
"""Mean square of the change within that time, as a part of that between unrelated moments.

More than 0.75 in 99 % of 2,422 gaps in which somebody walked.
"""


def bridge_samples(period_us: int) -> int:
    """Samples before a gap that must be known to bridge it."""
    return (LONGEST_LAG_US + COMPARED_US) // period_us


class Gap(NamedTuple):
    """A gap to be bridged.

    ``slot`` is the device. In the samples of a call, ``head`` is the first one of the device,
    ``begin`` the first one in the gap, and ``end`` the one after the last in the gap.
    """

    slot: int
    head: int
    begin: int
    end: int


def find_gaps(samples: Samples, admitted: Admitted[Readings], period_us: int) -> list[Gap]:
    """Where the samples are that the gaps to be bridged contain.

    Parameters
    ----------
    samples
        The samples that the readings complete.
    admitted
        The readings, and which of them follow a gap that is bridged.
    period_us
        Time between two samples.
    """
    stretches, gaps = admitted.stretches, admitted.bridged
    if not len(gaps):
        return []
    slots, rows = stretches.slot[gaps], stretches.begin[gaps]
    devices = np.searchsorted(stretches.heads, gaps, "right") - 1
    heads = np.searchsorted(samples.row, stretches.begin[stretches.heads[devices]])
    begins, ends = (np.searchsorted(samples.row, rows, side) for side in ("left", "right"))
    # A sample at the time of the reading is the reading itself.
    ends -= samples.place[ends - 1] * period_us == stretches.first_us[gaps]
    return [Gap(*gap) for gap in np.stack([slots, heads, begins, ends], axis=1).tolist()]


def bridge_gaps(
    channels: NDArray[np.float32],
    place: NDArray[np.int64],
    gaps: Sequence[Gap],
    rings: SampleRings,
    period_us: int,
) -> None:
    """Replace the samples in gaps by the movement before each gap, if that is as quick as walking.

    Otherwise they stay as they are, on a line between the two readings.

    Parameters
    ----------
    channels : (m, 8) float32
        Channels of the samples; those in gaps are changed.
    place : (m,) int64
        Indices of the samples on the grid.
    gaps
        Those to be bridged.
    rings
        Samples of earlier calls.
    period_us
        Time between two samples.
    """
    kept = bridge_samples(period_us)
    for slot, head, begin, end in gaps:
        first, known = int(place[begin]), min(begin - head, kept)
        earlier = rings.read(slot, first - kept, first - known - 1)
        before = np.concatenate([earlier, channels[begin - known : begin]])
        if _is_quick(before, period_us):
            channels[begin:end] = _repeat(before, end - begin, period_us)


def _is_quick(before: NDArray[np.float32], period_us: int) -> bool:
    """Whether the acceleration changes as quickly as that of somebody who walks.

    If a slow movement, as of exercises with the arms, is cut off and repeated, it becomes a rhythm
    that looks like steps.
    """
    acceleration = before[:, MAGNITUDES.start].astype(np.float64)
    after = CHANGE_US // period_us
    change = float(np.square(acceleration[after:] - acceleration[:-after]).mean())
    return change > LEAST_CHANGE * 2 * float(acceleration.var())


def _repeat(before: NDArray[np.float32], count: int, period_us: int) -> NDArray[np.float32]:
    """The next ``count`` samples of a movement, if it goes on as it was one lag ago.

    The lag is the one at which the magnitude of the last acceleration differs least from the one
    before. Speech codecs conceal lost packets in this way (ITU-T G.711, appendix I).
    """
    acceleration = before[:, MAGNITUDES.start]
    compared, shortest = COMPARED_US // period_us, SHORTEST_LAG_US // period_us
    earlier = sliding_window_view(acceleration, compared)[:-shortest]
    differences = np.square(earlier - acceleration[-compared:]).sum(axis=1)
    lag = len(earlier) - 1 + shortest - int(differences.argmin())
    repeated: NDArray[np.float32] = before[len(before) - lag + np.arange(count) % lag]
    return repeated
