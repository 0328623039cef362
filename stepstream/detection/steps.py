"""From probabilities to steps: peaks, their refractory time, and pairing ends with starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.detection.columns import Steps
from stepstream.detection.detector import Detector
from stepstream.detection.model import PROBABILITIES
from stepstream.detection.rules import Rules
from stepstream.detection.slots import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.counters import Counters
    from stepstream.detection.detector import Observer
    from stepstream.detection.model import Model, ModelMetadata, Predict

__all__ = ["StepFinder", "make_step_detector"]

START, END = 0, 1


class _Ends(NamedTuple):
    """Ends and the starts that belong to them.

    ``row`` (m,) intp is the row of the signal, ``start`` and ``end`` (m,) intp are the most
    probable places in it.
    """

    row: NDArray[np.intp]
    start: NDArray[np.intp]
    end: NDArray[np.intp]

    def take(self, some: NDArray[Any]) -> _Ends:
        """Some of the ends: a mask, or places."""
        return _Ends(self.row[some], self.start[some], self.end[some])


class StepFinder:
    """The last probabilities of many devices, and the steps in them; a `Finder`.

    A sample is a *peak* if its end probability reaches the walking threshold, exceeds that of all
    samples within the refractory time before it, and is not exceeded within the settling time
    after it. The *start* of a peak is the most probable start between the shortest and the longest
    step before it that can't belong to the peak before it. A peak is an *end* if its start reaches
    the start threshold, and it, or a peak within the longest step before it, reaches the end
    threshold: walking probably continues.

    A peak that is none of its own waits: it becomes an end with the next one, if that follows
    within the waiting time, and no peak within the refractory time. So the first step of a walk,
    whose start looks like standing, counts when the second one does.

    Around the middle of a clear step the probabilities are flat, and which of their samples is
    the highest is chance. So both moments are the centre of the squared probabilities nearby.

    These rules look back over a fixed number of samples and keep no state. Steps therefore don't
    depend on where the signal began.

    Parameters
    ----------
    metadata
        The model's thresholds and lengths.
    hops_ahead
        Most hops of a device in one call of `find`.
    """

    def __init__(self, metadata: ModelMetadata, hops_ahead: int) -> None:
        self._model = metadata
        self._hop_samples = metadata.hop
        self.hops_ahead = hops_ahead
        step = metadata.longest_step + metadata.refractory
        self._step_hops = -(-step // metadata.hop)
        """Hops before that of an end on which it and its start depend."""
        self.lookback_hops = -(-(step + metadata.waiting) // metadata.hop)
        """The same for an end and those that wait for it."""
        self._near_hops = -(-metadata.refractory // metadata.hop)
        self._kept = self.lookback_hops + 1 + hops_ahead
        # Half precision halves the memory; its steps of 0.0005 below 1 are far below the noise.
        self._ring = np.empty((0, self._kept, metadata.hop, PROBABILITIES), np.float16)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._ring = grow(self._ring, capacity)

    def none(self) -> Steps:
        """No steps."""
        return Steps.none()

    def find(
        self,
        slot: NDArray[np.intp],
        hop: NDArray[np.int64],
        first_hop: NDArray[np.int64],
        probabilities: NDArray[np.float32],
        offset: NDArray[np.int64],
    ) -> Steps:
        """Add probabilities, one hop in each row; returns the steps whose ends they settle.

        The hop before each given one is searched for ends: the samples of the given one settle
        them. See `Finder.find` for the parameters.
        """
        self._ring[slot, hop % self._kept] = probabilities
        searched = hop - 1
        highest = self._ring[slot, searched % self._kept, :, END].max(axis=1, initial=0)
        rows = np.flatnonzero(
            (searched >= first_hop) & (highest.astype(np.float32) >= self._model.least_end)
        )
        if not len(rows):
            return Steps.none()
        # Few of the hops have a peak in them, and only these are looked at as a whole.
        near = self._gather(slot[rows], hop[rows], first_hop[rows], self._near_hops)
        row, within = np.nonzero(self._peaks_in_searched(near[:, :, END]))
        rows = rows[row]
        whole = self._gather(slot[rows], hop[rows], first_hop[rows], self._step_hops)
        place = within + self._step_hops * self._hop_samples
        ends, waits = self._find_ends(whole, place)
        found = self._describe(whole, ends, slot[rows], searched[rows], offset[rows])
        if not waits.any():
            return found
        at, within = rows[ends.row[waits]], within[ends.row[waits]]
        whole = self._gather(slot[at], hop[at], first_hop[at], self.lookback_hops)
        place = within + self.lookback_hops * self._hop_samples
        waited = self._find_waiting(whole, place)
        before = self._describe(whole, waited, slot[at], searched[at], offset[at])
        row = np.concatenate([at[waited.row], rows[ends.row]])
        return Steps.concatenate([before, found]).take(np.argsort(row, kind="stable"))

    def _describe(
        self,
        probabilities: NDArray[np.float32],
        ends: _Ends,
        slot: NDArray[np.intp],
        searched: NDArray[np.int64],
        offset: NDArray[np.int64],
    ) -> Steps:
        """Steps of ends in rows that begin some hops before the searched one and end after it."""
        given, row = probabilities[ends.row], ends.row
        every = np.arange(len(row))
        origin = (searched[row] + 2) * self._hop_samples - probabilities.shape[1]
        start = centre(given[:, :, START], ends.start, *self._model.start_reach)
        end = centre(given[:, :, END], ends.end, *self._model.end_reach)
        return Steps(
            slot[row],
            (origin + start) * self._model.period_us,
            (origin + end) * self._model.period_us,
            given[every, ends.start, START],
            given[every, ends.end, END],
            offset[row],
        )

    def _gather(
        self,
        slot: NDArray[np.intp],
        hop: NDArray[np.int64],
        first_hop: NDArray[np.int64],
        back: int,
    ) -> NDArray[np.float32]:
        """The hop before each given one, ``back`` hops before it, and the given one.

        Returns
        -------
        (n, samples, 2) float32
            Oldest first; samples before the window's first probabilities count as 0.
        """
        hops = hop[:, np.newaxis] - np.arange(back + 1, -1, -1)
        gathered = self._ring[slot[:, np.newaxis], hops % self._kept].astype(np.float32)
        gathered[hops < first_hop[:, np.newaxis]] = 0
        samples: NDArray[np.float32] = gathered.reshape(
            len(slot), hops.shape[1] * self._hop_samples, PROBABILITIES
        )
        return samples

    def _peaks_in_searched(self, near: NDArray[np.float32]) -> NDArray[np.bool_]:
        begin = self._near_hops * self._hop_samples
        return self._find_peaks(near)[:, begin : begin + self._hop_samples]

    def _find_peaks(self, ends: NDArray[np.float32]) -> NDArray[np.bool_]:
        model = self._model
        return find_peaks(ends, model.least_end, model.refractory, model.settling)

    def _find_ends(
        self, probabilities: NDArray[np.float32], peak: NDArray[np.intp]
    ) -> tuple[_Ends, NDArray[np.bool_]]:
        """Which peaks, one in each row, are ends of their own, and whether one may wait for them.

        That is not so if the peak before is surely an end of its own, as mostly amid a walk.
        """
        peaks = self._find_peaks(probabilities[:, :, END])
        found, is_end, _ = self._judge(probabilities, peaks, np.arange(len(peak)), peak)
        found = found.take(is_end)
        samples, end = np.arange(probabilities.shape[1]), found.end[:, np.newaxis]
        recent = peaks[found.row] & (samples < end) & (samples >= end - self._model.waiting)
        waits: NDArray[np.bool_] = np.any(recent, axis=1)
        if waits.any():
            last = np.where(recent, samples, -1).max(axis=1)[waits]
            _, _, is_sure = self._judge(probabilities, peaks, found.row[waits], last)
            waits[waits] = ~is_sure
        return found, waits

    def _find_waiting(self, probabilities: NDArray[np.float32], peak: NDArray[np.intp]) -> _Ends:
        """The ends that waited for the one at the peak of each row."""
        peaks = self._find_peaks(probabilities[:, :, END])
        samples, end = np.arange(probabilities.shape[1]), peak[:, np.newaxis]
        recent = peaks & (samples <= end) & (samples >= end - self._model.waiting)
        row, place = np.nonzero(recent)
        found, is_end, _ = self._judge(probabilities, peaks, row, place)
        earlier = place < peak[row]
        # What another end followed has been decided by that.
        last_end = np.full(len(peak), -1)
        np.maximum.at(last_end, row[is_end & earlier], place[is_end & earlier])
        apart = np.diff(place, append=0) >= self._model.refractory
        starts = probabilities[row, found.start, START]
        return found.take(earlier & apart & (place > last_end[row]) & (starts > 0))

    def _judge(
        self,
        probabilities: NDArray[np.float32],
        peaks: NDArray[np.bool_],
        row: NDArray[np.intp],
        peak: NDArray[np.intp],
    ) -> tuple[_Ends, NDArray[np.bool_], NDArray[np.bool_]]:
        """Peaks with their starts, which are ends of their own, and which of them by their height.

        With fewer samples before, the last may be false, and is never true by mistake.
        """
        model = self._model
        given = probabilities[row]
        ends = given[:, :, END]
        samples = np.arange(probabilities.shape[1])
        before = (
            peaks[row]
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
        starts = np.where(allowed, given[:, :, START], -1)
        start = starts.argmax(axis=1)
        every = np.arange(len(peak))
        sure = ends[every, peak] >= model.end_threshold
        walking = (before & (ends >= model.end_threshold)).any(axis=1)
        likely = starts[every, start] >= model.start_threshold
        return _Ends(row, start, peak), (sure | walking) & likely, sure & likely


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


def make_step_detector(
    model: Model,
    rules: Rules = Rules(),  # noqa: B008 - immutable
    *,
    hops_ahead: int = 16,
    predict: Predict | None = None,
    counters: Counters | None = None,
    on_probabilities: Observer | None = None,
) -> Detector[Steps]:
    """A detector of steps.

    Parameters
    ----------
    hops_ahead
        Most hops of a device that are predicted before steps are looked for. More hops need more
        memory for each device, and less time. A few suit many devices, 256 one long recording.
    model, rules, predict, counters, on_probabilities
        See `Detector`.
    """
    return Detector(
        model,
        StepFinder(model.metadata, hops_ahead),
        rules,
        predict=predict,
        counters=counters,
        on_probabilities=on_probabilities,
    )
