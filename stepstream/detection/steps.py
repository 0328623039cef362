"""From probabilities to steps: peaks, their refractory time, and pairing ends with starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.model import ModelMetadata

__all__ = ["Found", "Probabilities"]

START, END = 0, 1


class Found(NamedTuple):
    """Steps: the row of the block that showed them, and where they start and end on the grid.

    ``row`` (m,) intp, ``start`` and ``end`` (m,) int64, their probabilities (m,) float32.
    """

    row: NDArray[np.intp]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    start_probability: NDArray[np.float32]
    end_probability: NDArray[np.float32]


_NONE = Found(
    np.empty(0, np.intp),
    np.empty(0, np.int64),
    np.empty(0, np.int64),
    np.empty(0, np.float32),
    np.empty(0, np.float32),
)


class Probabilities:
    """The last probabilities of many devices, and the steps in them.

    A sample is a *peak* if its end probability reaches the walking threshold, exceeds that of all
    samples within the refractory time before it, and is not exceeded within the settling time
    after it. A peak is an *end* if it reaches the end threshold, or if a peak within the longest
    step before it does: who walks, goes on walking. Its *start* is the most probable start
    between the shortest and the longest step before it that can't belong to the peak before it.

    Where a step is least doubtful, probabilities are flat, and which of their samples is the
    highest is chance: both moments are given as the centre of the squared probabilities around.

    These rules look back over a fixed number of samples and keep no state, so that steps don't
    depend on where the signal began.

    Parameters
    ----------
    metadata
        The model's thresholds and lengths.
    blocks_ahead
        Most blocks that one call of `find` brings for a device.
    """

    def __init__(self, metadata: ModelMetadata, blocks_ahead: int) -> None:
        self._model = metadata
        self._hop = metadata.hop
        self.lookback_blocks = -(-(metadata.longest_step + metadata.refractory) // metadata.hop)
        """Blocks before that of an end on which the end and its start can depend."""
        self._near_blocks = -(-metadata.refractory // metadata.hop)
        self._blocks = self.lookback_blocks + 1 + blocks_ahead
        # Half precision halves the memory; its steps of 0.0005 below 1 are far below the noise.
        self._ring = np.empty((0, self._blocks, metadata.hop, 2), np.float16)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        grown = np.zeros((capacity, *self._ring.shape[1:]), np.float16)
        grown[: len(self._ring)] = self._ring
        self._ring = grown

    def find(
        self,
        slot: NDArray[np.intp],
        block: NDArray[np.int64],
        first_block: NDArray[np.int64],
        probabilities: NDArray[np.float32],
    ) -> Found:
        """Add one block of probabilities a row; the steps whose ends they settle.

        Parameters
        ----------
        slot : (n,) intp
            Devices; those of one device stand together, blocks ascending without a hole.
        block : (n,) int64
            The block's place on the grid, in blocks.
        first_block : (n,) int64
            The first block that the device's window has given.
        probabilities : (n, hop, 2) float32
            Start and end probability of its samples.
        """
        self._ring[slot, block % self._blocks] = probabilities
        judged = block - 1
        ends = self._ring[slot, judged % self._blocks, :, END].astype(np.float32)
        rows = np.flatnonzero(
            (judged >= first_block) & (ends.max(axis=1, initial=0) >= self._model.least_end)
        )
        if not len(rows):
            return _NONE
        # Few of the blocks have a peak in them; only these are looked at as a whole.
        near = self._gather(slot[rows], block[rows], first_block[rows], self._near_blocks)
        place, place_in = np.nonzero(self._peaks_in_judged(near[:, :, END]))
        rows = rows[place]
        whole = self._gather(slot[rows], block[rows], first_block[rows], self.lookback_blocks)
        steps = self._pair(whole, place_in + self.lookback_blocks * self._hop)
        rows = rows[steps.row]
        origin = (judged[rows] - self.lookback_blocks) * self._hop
        return steps._replace(row=rows, start=origin + steps.start, end=origin + steps.end)

    def _gather(
        self,
        slot: NDArray[np.intp],
        block: NDArray[np.int64],
        first_block: NDArray[np.int64],
        back: int,
    ) -> NDArray[np.float32]:
        """``back`` blocks, the one before each given one, and that one: (n, samples, 2).

        Oldest first; samples that the window never gave count as 0.
        """
        blocks = block[:, np.newaxis] - np.arange(back + 1, -1, -1)
        gathered = self._ring[slot[:, np.newaxis], blocks % self._blocks].astype(np.float32)
        gathered[blocks < first_block[:, np.newaxis]] = 0
        samples: NDArray[np.float32] = gathered.reshape(len(slot), blocks.shape[1] * self._hop, 2)
        return samples

    def _peaks_in_judged(self, near: NDArray[np.float32]) -> NDArray[np.bool_]:
        judged = self._near_blocks * self._hop
        return self._find_peaks(near)[:, judged : judged + self._hop]

    def _find_peaks(self, ends: NDArray[np.float32]) -> NDArray[np.bool_]:
        model = self._model
        return find_peaks(ends, model.least_end, model.refractory, model.settling)

    def _pair(self, probabilities: NDArray[np.float32], peak: NDArray[np.intp]) -> Found:
        """The steps that end at the peak of each row; places within the rows."""
        model = self._model
        ends = probabilities[:, :, END]
        samples = np.arange(probabilities.shape[1])
        before = (
            self._find_peaks(ends)
            & (samples < peak[:, np.newaxis])
            & (samples >= peak[:, np.newaxis] - model.longest_step)
        )
        last_before = np.where(before, samples, -1).max(axis=1, initial=-1)
        after = np.maximum(
            np.where(last_before < 0, -1, last_before - model.shortest_step),
            peak - model.longest_step - 1,
        )
        allowed = (samples > after[:, np.newaxis]) & (
            samples <= (peak - model.shortest_step)[:, np.newaxis]
        )
        starts = np.where(allowed, probabilities[:, :, START], -1)
        start = starts.argmax(axis=1)
        every = np.arange(len(peak))
        sure = ends[every, peak] >= model.end_threshold
        walking = (before & (ends >= model.end_threshold)).any(axis=1)
        row = np.flatnonzero((sure | walking) & (starts[every, start] >= model.start_threshold))
        start, peak, probabilities = start[row], peak[row], probabilities[row]
        every = np.arange(len(row))
        return Found(
            row,
            centre(probabilities[:, :, START], start, *model.start_reach),
            centre(probabilities[:, :, END], peak, *model.end_reach),
            probabilities[every, start, START],
            probabilities[every, peak, END],
        )


def centre(
    values: NDArray[np.float32], place: NDArray[np.intp], before: int, after: int
) -> NDArray[np.intp]:
    """The centre of the squares of the values around a place in each row, to the nearest place.

    Parameters
    ----------
    values : (n, m) float32
        Independent rows.
    place : (n,) intp
        A place in each, its value above 0.
    before, after
        How many values on each side count; all are within the row.

    Returns
    -------
    (n,) intp
    """
    offsets = np.arange(-before, after + 1)
    near = values[np.arange(len(place))[:, np.newaxis], place[:, np.newaxis] + offsets]
    weights = np.square(near, dtype=np.float64)
    shift = (weights * offsets).sum(axis=1) / weights.sum(axis=1)
    moved: NDArray[np.intp] = place + np.rint(shift).astype(np.intp)
    return moved


def find_peaks(
    values: NDArray[np.float32], threshold: float, before: int, after: int
) -> NDArray[np.bool_]:
    """Which values reach a threshold, exceed the ones before and aren't exceeded by those after.

    Parameters
    ----------
    values : (n, m) float32
        Independent rows.
    threshold
        Least value of a peak.
    before, after
        How many values on each side count; fewer at the edges.

    Returns
    -------
    (n, m) bool
    """
    count, width = values.shape
    padded = np.zeros((count, before + width + after), np.float32)
    padded[:, before : before + width] = values
    highest_before = _sliding_max(padded[:, : before + width - 1], before)
    highest_after = _sliding_max(padded[:, before + 1 :], after)
    peaks: NDArray[np.bool_] = (
        (values >= threshold) & (values > highest_before) & (values >= highest_after)
    )
    return peaks


def _sliding_max(values: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Maximum of each ``width`` neighbours in a row, by doubling how many are covered."""
    covered = 1
    while covered < width:
        step = min(covered, width - covered)
        values = np.maximum(values[:, :-step], values[:, step:])
        covered += step
    return values
