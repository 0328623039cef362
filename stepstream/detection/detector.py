"""Readings in, steps or other findings out: windows, network and finder put together."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from stepstream.detection.admission import Grid
from stepstream.detection.bridging import bridge_gaps, bridge_samples, find_gaps
from stepstream.detection.columns import Columns, first_rows, rows_by_number, select
from stepstream.detection.counters import Counters
from stepstream.detection.joining import Joiner
from stepstream.detection.memory import Memory
from stepstream.detection.model import MAGNITUDES
from stepstream.detection.resampling import (
    Completed,
    Parts,
    expand_spans,
    resample,
    scale_channels,
)
from stepstream.detection.rules import Rules
from stepstream.detection.samples import SampleRings
from stepstream.detection.windows import NO_PLACE, Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings, SplitReadings
    from stepstream.detection.finder import Finder
    from stepstream.detection.model import Model, Predict
    from stepstream.detection.windows import Newest

    Observer = Callable[[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]], None]

__all__ = ["Detector", "Window"]

C = TypeVar("C", bound=Columns)

ROW_BITS = 32
"""Bits for a row beside its slot in one whole number."""


class Window(NamedTuple):
    """What is known of a device's window.

    ``began_us`` is the time of its first sample, ``last_reading_us`` that of its last reading,
    both in microseconds since the epoch. ``is_full`` says that the network sees only samples of
    this window, and none before it.
    """

    began_us: int
    last_reading_us: int
    is_full: bool


class Detector(Generic[C]):
    """Finds steps, or what another finder looks for, in the readings of many devices.

    What is found for a device depends on its own readings only: not on how they were cut into
    calls, nor on other devices in these calls. All that is known of a device derives from its
    readings of the last `horizon_us`.

    Parameters
    ----------
    model
        The network.
    finder
        Turns the network's probabilities into columns. It belongs to this detector alone.
    rules
        When readings belong together.
    predict
        Runs the network; ``model.predict`` if not given. Whoever wants to time the network gives
        a function around that.
    counters
        Where windows, gaps and late readings are counted; new ones if not given.
    on_probabilities
        Called with what the network gave: slots (n,), indices of the first samples (n,), start
        and end probabilities (n, hop, 2).
    """

    def __init__(
        self,
        model: Model,
        finder: Finder[C],
        rules: Rules = Rules(),  # noqa: B008 - immutable
        *,
        predict: Predict | None = None,
        counters: Counters | None = None,
        on_probabilities: Observer | None = None,
    ) -> None:
        metadata = model.metadata
        self.model = model
        self.counters = counters or Counters()
        self._finder = finder
        self._observer = on_probabilities
        self._hop_samples = metadata.hop
        self._delay_hops = metadata.delay // metadata.hop
        # The probabilities of the next hop are searched when those of the hop after it are known.
        # The finder looks back from there over lookback_hops, and the network gave the oldest of
        # these from a window that began so many samples earlier.
        history_hops = finder.lookback_hops + metadata.window // metadata.hop
        self.horizon_us = (history_hops + 1) * metadata.hop * metadata.period_us
        """Age of the oldest reading that can still matter, beyond one pause between readings."""
        bridged = bridge_samples(metadata.period_us)
        grid = Grid(metadata.period_us, metadata.hop, bridged)
        self._windows = Windows(rules, self.counters, grid, history_hops)
        self._make_joiner = partial(
            Joiner, rules, self.counters, metadata.period_us, metadata.hop, history_hops
        )
        self._joiner: Joiner | None = None
        # What is repeated in a gap seldom begins and ends with a hop.
        kept = max(finder.hops_ahead, -(-bridged // metadata.hop) + 1)
        self._samples = SampleRings(kept, metadata.hop)
        self._memory = Memory(model, predict or model.predict)
        self._capacity = 0
        self._free: list[int] = []

    @property
    def device_count(self) -> int:
        """Devices that have a slot."""
        return self._capacity - len(self._free)

    def add_device(self) -> int:
        """Slot for a new device, without a window."""
        if not self._free:
            grown = max(256, self._capacity * 2)
            for part in (self._windows, self._samples, self._memory, self._finder):
                part.resize(grown)
            if self._joiner:
                self._joiner.resize(grown)
            added = np.arange(self._capacity, grown)
            self._windows.clear(added)
            self._free = added[::-1].tolist()
            self._capacity = grown
        return self._free.pop()

    def remove_devices(self, slots: NDArray[np.intp]) -> None:
        """Free slots, and drop their windows."""
        self._windows.clear(slots)
        if self._joiner:
            self._joiner.clear(slots)
        self._free.extend(slots.tolist())

    def find_idle(self, slots: NDArray[np.intp], stream_ms: int) -> NDArray[np.intp]:
        """Those of the devices that are idle at a stream time, or have no window.

        Their next readings open new windows, here and in a replay, so that nothing is lost if they
        are removed.
        """
        idle = slots[self._windows.is_done(slots, stream_ms)]
        return idle[~self._joiner.is_live(idle, stream_ms)] if self._joiner else idle

    def replay_point(self, slots: NDArray[np.intp], stream_ms: int) -> tuple[int, int] | None:
        """Oldest input offset that any of these devices still needs, and stream time there.

        A new detector that is fed from there, or from any earlier offset, finds the same from now
        on.

        Parameters
        ----------
        slots : (n,) intp
            Devices of a partition.
        stream_ms
            Stream time of the partition. A device that is idle by then, or whose window is too
            old, opens a new window with its next reading and needs nothing.

        Returns
        -------
        tuple of int, or None
            None if no device needs anything.
        """
        points = [self._windows.replay_point(slots, stream_ms)]
        if self._joiner:
            points.append(self._joiner.replay_point(slots, stream_ms))
        return min((point for point in points if point), default=None)

    def window(self, slot: int) -> Window | None:
        """A device's window, if it has one."""
        bounds = self._bounds(slot)
        if bounds is None:
            return None
        (first_sample, last_us), metadata = bounds, self.model.metadata
        samples = last_us // metadata.period_us - first_sample + 1
        return Window(first_sample * metadata.period_us, last_us, samples >= metadata.window)

    def _bounds(self, slot: int) -> tuple[int, int] | None:
        """Index of the first sample of a device's window, and the time up to which it has them."""
        bounds = self._windows.bounds(slot)
        if bounds is None and self._joiner:
            return self._joiner.bounds(slot)
        return bounds

    def newest(self, slots: NDArray[np.intp]) -> Newest:
        """The last reading of each device; of a split device, that of its accelerometer."""
        newest = self._windows.newest(slots)
        if self._joiner:
            is_split, of_split = self._joiner.newest(slots)
            for column, values in zip(newest, of_split, strict=True):
                column[is_split] = values
        return newest

    def has_late_gyroscope(self, slot: int) -> bool:
        """Whether a device's sensors send apart, and its gyroscope comes too late to be joined."""
        return self._joiner is not None and self._joiner.has_late_gyroscope(slot)

    def magnitudes(self, slot: int, after: int) -> tuple[int, NDArray[np.float64]] | None:
        """A device's newest samples, as far as they are kept.

        Parameters
        ----------
        slot
            The device.
        after
            Index of a sample: only later ones are given. If it is none of the samples that are
            kept, because the window is a new one or many samples followed, all these are given.

        Returns
        -------
        tuple, or None
            Index of the first sample given, and the magnitudes (n, 2) of the acceleration in
            m/s^2 and of the angular velocity in rad/s. None if there are no such samples.
        """
        bounds = self._bounds(slot)
        if bounds is None:
            return None
        (first, last_us), metadata = bounds, self.model.metadata
        last = last_us // metadata.period_us
        first = max(first, self._samples.oldest(last))
        if first <= after <= last:
            first = after + 1
        if first > last:
            return None
        scale = np.array([metadata.accel_scale, metadata.gyro_scale])
        return first, self._samples.read(slot, first, last)[:, MAGNITUDES] * scale

    def feed(self, readings: Readings, split: SplitReadings | None = None) -> C:
        """Add readings in the order of arrival; returns what they complete.

        Parameters
        ----------
        readings
            Of any devices that have a slot, in any interleaving.
        split
            Readings of other devices, whose sensors send apart. A device's readings are either
            always here or never.

        Returns
        -------
        Columns
            Rows of one device stand together, in the order in which they were completed.
        """
        completed = self._resample(readings) if len(readings) else None
        if split is not None and len(split):
            joined = self._join(split)
            completed = completed.with_others(joined) if completed else joined
        return self._detect(completed) if completed else self._finder.none()

    def _resample(self, readings: Readings) -> Completed | None:
        """The samples that readings complete."""
        admitted = self._windows.admit(_by_device(readings))
        accepted = admitted.readings
        if not len(accepted):
            return None
        stretches, period_us = admitted.stretches, self.model.metadata.period_us
        samples = resample(
            accepted.time_us,
            accepted.axes,
            stretches.begin,
            admitted.previous_us,
            admitted.previous_axes,
            period_us=period_us,
        )
        heads = first_rows(admitted.window)
        tails = np.append(heads, len(stretches.slot))[1:] - 1
        place = admitted.previous_us[heads] // period_us + 1
        count = stretches.last_us[tails] // period_us + 1 - place
        parts = Parts(
            stretches.slot[heads],
            np.cumsum(count) - count,
            place,
            count,
            admitted.first_sample[heads],
        )
        gaps = find_gaps(samples, admitted, period_us)
        return Completed(samples, parts.take(np.flatnonzero(count)), accepted.offset, gaps)

    def _join(self, readings: SplitReadings) -> Completed:
        """The samples that readings of split devices complete."""
        if not self._joiner:
            self._joiner = self._make_joiner()
            self._joiner.resize(self._capacity)
        return self._joiner.join(_by_device(readings))

    def _detect(self, completed: Completed) -> C:
        """What is found in samples."""
        samples, metadata = completed.samples, self.model.metadata
        channels = scale_channels(samples.axes, metadata.accel_scale, metadata.gyro_scale)
        bridge_gaps(channels, samples.place, completed.gaps, self._samples, metadata.period_us)
        found = []
        for parts in self._rounds(completed.parts):
            place, written = samples.place, channels
            if parts is not completed.parts:
                _, rows = expand_spans(parts.begin, parts.begin + parts.length - 1)
                place, written = place.take(rows), channels.take(rows, axis=0)
            self._samples.write(np.repeat(parts.slot, parts.length), place, written)
            part, hop = self._due(parts)
            if len(hop):
                last = (hop + 1) * self._hop_samples - 1
                row = samples.row[parts.begin[part] + last - parts.place[part]]
                first_hop = -(-parts.first_sample[part] // self._hop_samples)
                found.append(self._find(parts.slot[part], hop, first_hop, completed.offset[row]))
        if len(found) <= 1:
            return found[0] if found else self._finder.none()
        every = type(found[0]).concatenate(found)
        return every.take(np.argsort(every.slot, kind="stable"))

    def _due(self, parts: Parts) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Which hops the samples of each part complete; all samples of a hop are of its window."""
        first_hop = -(-parts.first_sample // self._hop_samples)
        return expand_spans(
            np.maximum(parts.place // self._hop_samples, first_hop),
            (parts.place + parts.length) // self._hop_samples - 1,
        )

    def _rounds(self, parts: Parts) -> list[Parts]:
        """Samples in rounds: those of a round fit into the rings together.

        Nearly always one round is enough. A long message may contain more hops of a device than its
        ring has, or two windows of it. Then a round has at most ``hops_ahead`` hops of one
        window, and the network runs over them before the next round replaces them.

        A window that completes no hop and that another window of the device follows is left out:
        its samples are never looked at.
        """
        if not len(parts.slot):
            return []
        hop_samples, ahead = self._hop_samples, self._finder.hops_ahead
        first_hop = parts.place // hop_samples
        more_rounds = ((parts.place + parts.length - 1) // hop_samples - first_hop) // ahead
        is_last = np.diff(parts.slot, append=-1) != 0
        if more_rounds.max() == 0 and is_last.all():
            return [parts]
        is_due = np.bincount(self._due(parts)[0], minlength=len(is_last)) > 0
        # A hole divides a window into parts, which have the same first sample.
        is_followed = np.diff(parts.first_sample, append=NO_PLACE) != 0
        # The rounds of a device's window begin after those of its windows before.
        rounds = np.where(is_last | is_due | ~is_followed, more_rounds + 1, 0)
        begin = np.cumsum(rounds) - rounds
        devices = first_rows(parts.slot)
        begin -= np.repeat(begin[devices], np.diff(devices, append=len(begin)))
        part, number = expand_spans(np.zeros_like(rounds), rounds - 1)
        of, hop = parts.take(part), first_hop[part] + number * ahead
        place = np.maximum(of.place, hop * hop_samples)
        end = np.minimum(of.place + of.length, (hop + ahead) * hop_samples)
        every = of._replace(begin=of.begin + place - of.place, place=place, length=end - place)
        number += begin[part]
        return [every.take(rows) for rows in rows_by_number(number, int(number.max()) + 1)]

    def _find(
        self,
        slot: NDArray[np.intp],
        hop: NDArray[np.int64],
        first_hop: NDArray[np.int64],
        offset: NDArray[np.int64],
    ) -> C:
        """Run the network over these hops; what they complete."""
        samples = self._samples
        rows, opens = samples.rows(slot, hop), hop == first_hop
        probabilities = self._memory.predict(slot, hop, samples.by_hop, rows, opens)
        given = hop - self._delay_hops
        # What the network gives for samples before the window is of no use.
        own = np.flatnonzero(given >= first_hop)
        if len(own) < len(hop):
            slot, given, first_hop = slot[own], given[own], first_hop[own]
            probabilities, offset = probabilities[own], offset[own]
        if self._observer:
            self._observer(slot, given * self._hop_samples, probabilities)
        return self._finder.find(slot, given, first_hop, probabilities, offset)


R = TypeVar("R", bound="Readings")


def _by_device(readings: R) -> R:
    """Readings by device, those of a device in the order of arrival."""
    heads = first_rows(readings.slot)
    # A stable sort by slot, as a sort of whole numbers: a tenth of the time of argsort.
    keyed = np.sort(select(readings.slot, heads) << ROW_BITS | np.arange(len(heads)))
    order = keyed & ((1 << ROW_BITS) - 1)
    if len(heads) < len(readings):
        if np.diff(keyed >> ROW_BITS).all():
            return readings  # those of each device stand together already
        end = np.append(heads, len(readings))[1:]
        _, order = expand_spans(heads[order], end[order] - 1)
    return readings.take(order)
