"""The last samples of every device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.model import CHANNELS
from stepstream.detection.slots import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SampleRings"]

SAMPLE = np.dtype((np.void, CHANNELS * 4))


class SampleRings:
    """A ring of hops for each device: a hop replaces the one that is ``hops`` older.

    Parameters
    ----------
    hops
        Hops that are kept of each device.
    hop_samples
        Samples of a hop.
    """

    def __init__(self, hops: int, hop_samples: int) -> None:
        self._hops = hops
        self._hop_samples = hop_samples
        self._samples = np.empty((0, hops, hop_samples, CHANNELS), np.float32)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._samples = grow(self._samples, capacity)

    def write(
        self, slot: NDArray[np.intp], place: NDArray[np.int64], channels: NDArray[np.float32]
    ) -> None:
        """Put samples into the rings.

        Parameters
        ----------
        slot : (n,) intp
            Devices.
        place : (n,) int64
            Indices of the samples on the grid.
        channels : (n, 8) float32
            The samples.
        """
        kept = self._hops * self._hop_samples
        # As one item a sample, which NumPy copies in half the time of a row of numbers.
        samples = self._samples.reshape(-1, CHANNELS).view(SAMPLE)
        samples[slot * kept + place % kept] = channels.view(SAMPLE)

    @property
    def by_hop(self) -> NDArray[np.float32]:
        """All samples, (m, hop * 8) float32: one hop a row, see `rows`."""
        return self._samples.reshape(-1, self._hop_samples * CHANNELS)

    def rows(self, slot: NDArray[np.intp], hop: NDArray[np.int64]) -> NDArray[np.intp]:
        """Rows of `by_hop` that hold these hops of these devices."""
        rows: NDArray[np.intp] = slot * self._hops + hop % self._hops
        return rows

    def oldest(self, last: int) -> int:
        """Index of the oldest sample that is kept of a device, ``last`` being its newest."""
        return (last // self._hop_samples - self._hops + 1) * self._hop_samples

    def read(self, slot: int, first: int, last: int) -> NDArray[np.float32]:
        """Copy a device's samples with the indices ``first`` to ``last``: (n, 8) float32."""
        index = np.arange(first, last + 1)
        hop, within = index // self._hop_samples % self._hops, index % self._hop_samples
        samples: NDArray[np.float32] = self._samples[slot, hop, within]
        return samples
