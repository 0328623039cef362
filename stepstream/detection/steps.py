"""From probabilities to steps: peaks, their refractory time, and pairing ends with starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    """Ends and the starts that belong to them: (m,) intp each, the most probable places.

    A place counts the samples of all rows before its own as well.
    """

    start: NDArray[np.intp]
    end: NDArray[np.intp]

    def take(self, some: NDArray[np.bool_]) -> _Ends:
        """Some of the ends."""
        return _Ends(self.start[some], self.end[some])


class StepFinder:
    """The last probabilities of many devices, and the steps in them; a `Finder`.

    A sample is a *peak* if its end probability reaches the walking threshold, exceeds that of all
    samples within the refractory time before it, and is not exceeded within the settling time
    after it. The *start* of a peak is the most probable start between the shortest and the longest
    step before it that can't belong to the peak before it. A peak is an *end* if its start reaches
    the start threshold, and the peak, with the support of those before it, reaches the end
    threshold: one that is weak is probably an end if others precede it. A model that knows no
    support says so in another way: the peak, or one within the longest step before it, reaches the
    end threshold.

    A peak that is none of its own waits: it becomes an end with the next one, if that follows
    within the waiting time, and no peak within the refractory time. So the first step of a walk,
    whose start looks like standing, counts when the second one does.

    Around the middle of a clear step the probabilities are flat, and which of their samples is
    the highest is chance. So both moments are the centre of the squared probabilities nearby.

    These rules look back over a fixed number of samples and keep no state. Steps therefore don't
    depend on where the signal began.

    Probabilities are kept in half precision: its steps of 0.0005 below 1 are far below the noise.
    They are compared by their bits, whole numbers that have the same order.

    Parameters
    ----------
    metadata
        The model's thresholds and lengths.
    hops_ahead
        Most hops of a device in one call of `find`.
    """

    def __init__(self, metadata: ModelMetadata, hops_ahead: int) -> None:
        self._model = metadata
        self._start, self._end, self._least_end = map(
            _bits, (metadata.start_threshold, metadata.end_threshold, metadata.least_end)
        )
        self._shown = _calibrated(*metadata.end_calibration)
        """What an end's probability is in its step, by its bits."""
        self._hop_samples = metadata.hop
        self.hops_ahead = hops_ahead
        step = max(metadata.longest_step, metadata.supporting) + metadata.refractory
        self._step_hops = -(-step // metadata.hop)
        """Hops before that of an end on which it and its start depend."""
        self.lookback_hops = -(-(step + metadata.waiting) // metadata.hop)
        """The same for an end and those that wait for it."""
        self._near_hops = -(-metadata.refractory // metadata.hop)
        self._kept = self.lookback_hops + 1 + hops_ahead
        self._ring = np.empty((0, self._kept, metadata.hop * PROBABILITIES), np.uint16)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._ring = grow(self._ring, capacity)

    @property
    def _by_hop(self) -> NDArray[np.uint16]:
        """All rings, one hop a row."""
        return self._ring.reshape(-1, self._ring.shape[2])

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
        places = self._kept * slot
        # What is no number, or negative, is no probability.
        half = np.fmax(probabilities, 0).astype(np.float16).view(np.uint16)
        self._by_hop[places + hop % self._kept] = half.reshape(-1, self._ring.shape[2])
        searched = hop - 1
        given = self._ring[slot, searched % self._kept, END::PROBABILITIES]
        rows = np.flatnonzero((searched >= first_hop) & (given.max(axis=1) >= self._least_end))
        if not len(rows):
            return Steps.none()
        # Few of the hops have a peak in them, and only these are looked at as a whole.
        near = self._gather(places[rows], hop[rows], first_hop[rows], self._near_hops)
        row, within = np.nonzero(self._peaks_in_searched(near[:, :, END]))
        rows = rows[row]
        whole = self._gather(places[rows], hop[rows], first_hop[rows], self._step_hops)
        ends, waits = self._find_ends(whole, within + self._step_hops * self._hop_samples)
        found = self._describe(whole, ends, slot[rows], searched[rows], offset[rows])
        if not waits.any():
            return found
        # Places of ends are in the order of rows.
        row = ends.end // whole.shape[1]
        at, within = rows[row[waits]], within[row[waits]]
        whole = self._gather(places[at], hop[at], first_hop[at], self.lookback_hops)
        waited = self._find_waiting(whole, within + self.lookback_hops * self._hop_samples)
        before = self._describe(whole, waited, slot[at], searched[at], offset[at])
        order = np.concatenate([at[waited.end // whole.shape[1]], rows[row]])
        return Steps.concatenate([before, found]).take(np.argsort(order, kind="stable"))

    def _describe(
        self,
        probabilities: NDArray[np.uint16],
        ends: _Ends,
        slot: NDArray[np.intp],
        searched: NDArray[np.int64],
        offset: NDArray[np.int64],
    ) -> Steps:
        """Steps of ends in rows that begin some hops before the searched one and end after it."""
        model, width = self._model, probabilities.shape[1]
        row = ends.end // width
        given = probabilities.view(np.float16).reshape(-1, PROBABILITIES)
        first = (searched[row] + 2) * self._hop_samples - width - row * width
        start = centre(given[:, START], ends.start, *model.start_reach)
        end = centre(given[:, END], ends.end, *model.end_reach)
        return Steps(
            slot[row],
            (first + start) * model.period_us,
            (first + end) * model.period_us,
            given[ends.start, START].astype(np.float32),
            self._shown.take(probabilities.reshape(-1, PROBABILITIES)[ends.end, END], mode="clip"),
            offset[row],
        )

    def _gather(
        self,
        places: NDArray[np.intp],
        hop: NDArray[np.int64],
        first_hop: NDArray[np.int64],
        back: int,
    ) -> NDArray[np.uint16]:
        """The hop before each given one, ``back`` hops before it, and the given one.

        ``places`` are those of the devices' rings.

        Returns
        -------
        (n, samples, 2) uint16
            Oldest first; samples before the window's first probabilities count as 0.
        """
        hops = hop[:, np.newaxis] - np.arange(back + 1, -1, -1)
        gathered = self._by_hop.take(places[:, np.newaxis] + hops % self._kept, axis=0)
        gathered[hops < first_hop[:, np.newaxis]] = 0
        return gathered.reshape(len(hop), hops.shape[1] * self._hop_samples, PROBABILITIES)

    def _peaks_in_searched(self, near: NDArray[np.uint16]) -> NDArray[np.bool_]:
        model, begin = self._model, self._near_hops * self._hop_samples
        end = begin + self._hop_samples + model.settling
        seen = near[:, begin - model.refractory : end]
        return find_peaks(seen, self._least_end, model.refractory, model.settling)

    def _find_all_peaks(self, probabilities: NDArray[np.uint16]) -> NDArray[np.intp]:
        """Places of the peaks in all rows; samples before and after a row count as 0."""
        model, (count, width) = self._model, probabilities.shape[:2]
        padded = np.zeros((count, model.refractory + width + model.settling), np.uint16)
        padded[:, model.refractory : model.refractory + width] = probabilities[:, :, END]
        return np.flatnonzero(find_peaks(padded, self._least_end, model.refractory, model.settling))

    def _find_ends(
        self, probabilities: NDArray[np.uint16], peak: NDArray[np.intp]
    ) -> tuple[_Ends, NDArray[np.bool_]]:
        """Which peaks, one in each row, are ends of their own, and whether one may wait for them.

        That is not so if the peak before is surely an end of its own, as mostly amid a walk.
        """
        width = probabilities.shape[1]
        peaks = self._find_all_peaks(probabilities)
        found, is_end, _ = self._judge(probabilities, peaks, np.arange(len(peak)) * width + peak)
        found = found.take(is_end)
        last = last_before(peaks, found.end)
        waits = last >= np.maximum(found.end - self._model.waiting, found.end // width * width)
        if waits.any():
            _, _, is_sure = self._judge(probabilities, peaks, last[waits])
            waits[waits] = ~is_sure
        return found, waits

    def _find_waiting(self, probabilities: NDArray[np.uint16], peak: NDArray[np.intp]) -> _Ends:
        """The ends that waited for the one at the peak of each row."""
        count, width, _ = probabilities.shape
        end = np.arange(count) * width + peak
        peaks = self._find_all_peaks(probabilities)
        row = peaks // width
        recent = (peaks <= end[row]) & (peaks >= end[row] - self._model.waiting)
        row = row[recent]
        found, is_end, _ = self._judge(probabilities, peaks, peaks[recent])
        earlier = found.end < end[row]
        # What another end followed has been decided by that.
        last_end = np.full(count, -1)
        np.maximum.at(last_end, row[is_end & earlier], found.end[is_end & earlier])
        apart = np.diff(found.end, append=0) >= self._model.refractory
        starts = probabilities.reshape(-1, PROBABILITIES)[found.start, START]
        return found.take(earlier & apart & (found.end > last_end[row]) & (starts > 0))

    def _judge(
        self,
        probabilities: NDArray[np.uint16],
        peaks: NDArray[np.intp],
        at: NDArray[np.intp],
    ) -> tuple[_Ends, NDArray[np.bool_], NDArray[np.bool_]]:
        """Peaks with their starts, which are ends of their own, and which of them surely.

        With fewer samples before, the last may be false, and is never true by mistake.

        Parameters
        ----------
        probabilities : (n, samples, 2) uint16
            Rows of signals.
        peaks : (p,) intp
            Places of all peaks, ascending.
        at : (m,) intp
            Those that are judged.
        """
        model, width = self._model, probabilities.shape[1]
        given = probabilities.reshape(-1, PROBABILITIES)
        begin = at // width * width
        oldest = np.maximum(at - model.longest_step, begin)
        before = last_before(peaks, at)
        first = np.where(before >= oldest, before - model.shortest_step + 1, oldest)
        first = np.maximum(first, oldest)
        place = (at - model.longest_step)[:, np.newaxis] + np.arange(
            model.longest_step - model.shortest_step + 1
        )
        starts = given[:, START].take(place, mode="clip")
        starts[place < first[:, np.newaxis]] = 0
        start = starts.argmax(axis=1)
        every = np.arange(len(at))
        likely = starts[every, start] >= self._start
        found = _Ends(place[every, start], at)
        if model.support:
            # In the first samples of a row, it isn't known what is a peak.
            since = np.maximum(at - model.supporting, begin + model.refractory)
            is_end = likely & self._is_supported(given, peaks, at, since)
            return found, is_end, is_end
        sure = given[at, END] >= self._end
        walking = last_before(peaks[given[peaks, END] >= self._end], at) >= oldest
        return found, (sure | walking) & likely, sure & likely

    def _is_supported(
        self,
        given: NDArray[np.uint16],
        peaks: NDArray[np.intp],
        at: NDArray[np.intp],
        since: NDArray[np.intp],
    ) -> NDArray[np.bool_]:
        """Whether the peaks at some places reach the end threshold with those before them.

        Only peaks from ``since`` on count, a place for each.
        """
        height = given[:, END].view(np.float16)
        total = height[at].astype(np.float64)
        number = np.searchsorted(peaks, at)
        for back, weight in enumerate(self._model.support, start=1):
            before = peaks[np.maximum(number - back, 0)]
            supports = (number >= back) & (before >= since)
            total += weight * np.where(supports, height[before], 0).astype(np.float64)
        reached: NDArray[np.bool_] = total >= self._model.end_threshold
        return reached


def _bits(probability: float) -> np.uint16:
    """The bits of the smallest half-precision number that is not less."""
    half = np.float16(probability)
    return np.uint16((half if half >= probability else np.nextafter(half, 1)).view(np.uint16))


def _calibrated(slope: float, offset: float) -> NDArray[np.float32]:
    """All half-precision numbers from 0 to 1, their log odds times ``slope`` plus ``offset``."""
    given = np.arange(np.float16(1).view(np.uint16) + 1, dtype=np.uint16).view(np.float16)
    if (slope, offset) == (1, 0):
        return given.astype(np.float32)
    given = given.astype(np.float64)
    odds = (given[:-1] / (1 - given[:-1])) ** slope * np.exp(offset)
    return np.append(odds / (1 + odds), 1).astype(np.float32)


def last_before(places: NDArray[np.intp], at: NDArray[np.intp]) -> NDArray[np.intp]:
    """The last of some ascending places before each of others; -1 if there is none."""
    return np.append(-1, places)[np.searchsorted(places, at)]


def centre(
    values: NDArray[np.float16], place: NDArray[np.intp], before: int, after: int
) -> NDArray[np.intp]:
    """The centre of the squares of the values around some places, to the nearest place.

    Parameters
    ----------
    values : (n,) float16
        Values, above 0 at the places.
    place : (m,) intp
        Places.
    before, after
        How many values on each side count.

    Returns
    -------
    (m,) intp
    """
    offsets = np.arange(-before, after + 1)
    weights = np.square(values[place[:, np.newaxis] + offsets], dtype=np.float64)
    shift = (weights * offsets).sum(axis=1) / weights.sum(axis=1)
    moved: NDArray[np.intp] = place + np.rint(shift).astype(np.intp)
    return moved


def find_peaks(
    values: NDArray[np.uint16], threshold: np.uint16, before: int, after: int
) -> NDArray[np.bool_]:
    """Which values reach a threshold, exceed the ones before and aren't exceeded by those after.

    Parameters
    ----------
    values : (n, before + m + after) uint16
        Independent rows.
    threshold
        Least value of a peak.
    before, after
        How many values on each side count.

    Returns
    -------
    (n, m) bool
        For those that have so many on each side.
    """
    judged = values[:, before : values.shape[1] - after]
    highest_before = _sliding_max(values[:, : values.shape[1] - after - 1], before)
    highest_after = _sliding_max(values[:, before + 1 :], after)
    peaks: NDArray[np.bool_] = (
        (judged >= threshold) & (judged > highest_before) & (judged >= highest_after)
    )
    return peaks


def _sliding_max(values: NDArray[np.uint16], width: int) -> NDArray[np.uint16]:
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
