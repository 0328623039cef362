"""Device windows: which readings are taken, and the last samples of every device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.detection.columns import first_rows
from stepstream.detection.model import AXES, CHANNELS
from stepstream.detection.resampling import expand_spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings
    from stepstream.detection.rules import Rules

__all__ = ["Admitted", "Windows"]

NO_TIME = np.iinfo(np.int64).min
SAMPLE = np.dtype((np.void, CHANNELS * 4))


class Admitted(NamedTuple):
    """Readings that were taken, sorted by device, each with the reading it follows.

    ``window`` (n,) intp numbers the windows they belong to, ascending, and ``first_sample``
    (n,) int64 is the first sample of that window. A reading that opens a window follows itself,
    one microsecond earlier.
    """

    readings: Readings
    window: NDArray[np.intp]
    first_sample: NDArray[np.int64]
    previous_us: NDArray[np.int64]
    previous_axes: NDArray[np.float32]


class Windows:
    """The windows of many devices, in columns: row i of every array belongs to slot i.

    A device's last samples stand in a ring of blocks of one hop each, at the place that their
    absolute index gives. Beside them stand, for each of the last blocks, offset and stream time
    of the first reading that the block rests on: from these follows how far back a replay has
    to begin.

    Parameters
    ----------
    rules
        When readings belong together.
    period_us, hop
        Distance of two samples; samples in a block.
    sample_blocks
        Blocks of samples that are kept for each device.
    history_blocks
        How many blocks before the next one its steps can depend on.
    """

    def __init__(
        self, rules: Rules, period_us: int, hop: int, sample_blocks: int, history_blocks: int
    ) -> None:
        self.rules = rules
        self.period_us = period_us
        self.hop = hop
        self.sample_blocks = sample_blocks
        self.history_blocks = history_blocks
        self._marks = history_blocks + 1
        self.late_readings = 0
        """Readings dropped because their device was already past them."""
        self.opened = 0
        """Windows that were started."""
        self.last_us = np.empty(0, np.int64)
        self.last_axes = np.empty((0, AXES), np.float32)
        self.last_offset = np.empty(0, np.int64)
        self.last_stream_ms = np.empty(0, np.int64)
        self.first_sample = np.empty(0, np.int64)
        self.samples = np.empty((0, sample_blocks, hop, CHANNELS), np.float32)
        self._mark_offset = np.empty((0, self._marks), np.int64)
        self._mark_stream_ms = np.empty((0, self._marks), np.int64)
        self._dropped = np.empty(0, np.bool_)
        self._pin_offset = np.empty(0, np.int64)
        self._pin_stream_ms = np.empty(0, np.int64)
        self._pin_since_ms = np.empty(0, np.int64)
        self._pin_until_ms = np.empty(0, np.int64)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; memory of slots never used isn't touched."""
        for name, array in list(vars(self).items()):
            if isinstance(array, np.ndarray):
                grown = np.zeros((capacity, *array.shape[1:]), array.dtype)
                grown[: len(array)] = array
                setattr(self, name, grown)

    def clear(self, slots: NDArray[np.intp]) -> None:
        """Forget the windows in ``slots``."""
        self.last_us[slots] = NO_TIME
        self._pin_until_ms[slots] = NO_TIME
        self._dropped[slots] = False

    def write(
        self,
        slot: NDArray[np.intp],
        block: NDArray[np.int64],
        within: NDArray[np.int64],
        channels: NDArray[np.float32],
    ) -> None:
        """Put samples, (n, 8), into their devices' rings: by block and place in the block."""
        row = (slot * self.sample_blocks + block % self.sample_blocks) * self.hop + within
        # As one item a sample, which NumPy copies in half the time of a row of numbers.
        self.samples.reshape(-1, CHANNELS).view(SAMPLE)[row] = channels.view(SAMPLE)

    def admit(self, readings: Readings) -> Admitted:
        """Take readings, sorted by slot, or drop them as late; remember the last of each device.

        The rules are judged reading by reading in the order of arrival. Columns decide at once
        for the devices that are in order, which is nearly all; the others are walked through.
        """
        slot = readings.slot
        heads = first_rows(slot)
        opens, taken = self._judge(readings, heads)
        if taken is not None:
            self.late_readings += len(slot) - int(np.count_nonzero(taken))
            readings, opens = readings.take(taken), opens[taken]
            heads = first_rows(readings.slot)
        return self._remember(readings, opens, heads)

    def _judge(
        self, readings: Readings, heads: NDArray[np.intp]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
        """Which readings open a window, and which are taken (None: all)."""
        slot, time_us, stream_ms = readings.slot, readings.time_us, readings.stream_ms
        previous_us = np.empty_like(time_us)
        previous_us[1:] = time_us[:-1]
        previous_us[heads] = self.last_us[slot[heads]]
        previous_ms = np.empty_like(stream_ms)
        previous_ms[1:] = stream_ms[:-1]
        previous_ms[heads] = self.last_stream_ms[slot[heads]]
        fresh = previous_us == NO_TIME
        opens = (
            fresh
            | (time_us - np.where(fresh, 0, previous_us) > self.rules.max_gap_us)
            | (stream_ms - previous_ms > self.rules.idle_timeout_ms)
        )
        ends = np.append(heads[1:], len(slot))
        disorder = np.logical_or.reduceat(time_us <= previous_us, heads)
        needed_ms = np.where(fresh[heads], stream_ms[heads], self._needed(slot[heads])[1])
        aged = stream_ms[ends - 1] - needed_ms > self.rules.max_age_ms
        walk = np.flatnonzero(disorder | aged | self._dropped[slot[heads]])
        if not len(walk):
            return opens, None
        taken = np.ones(len(slot), np.bool_)
        for device in walk:
            rows = slice(heads[device], ends[device])
            opens[rows], taken[rows] = self._walk(readings.take(rows))
        return opens, taken

    def _walk(self, readings: Readings) -> tuple[list[bool], list[bool]]:
        """The rules for readings of one device, one after the other."""
        rules, period_us = self.rules, self.period_us
        block_us = period_us * self.hop
        slot = readings.slot[0]
        last_us, last_ms = int(self.last_us[slot]), int(self.last_stream_ms[slot])
        last_offset = int(self.last_offset[slot])
        first_block = int(self.first_sample[slot]) // self.hop
        needed = max(first_block, (last_us + period_us) // block_us - self.history_blocks)
        marks = {
            block: int(self._mark_stream_ms[slot, block % self._marks])
            for block in range(needed, max(first_block, last_us // block_us) + 1)
        }
        dropped = bool(self._dropped[slot])
        opens, taken = [], []
        for time_us, stream_ms, offset in zip(
            readings.time_us.tolist(),
            readings.stream_ms.tolist(),
            readings.offset.tolist(),
            strict=True,
        ):
            new = (
                last_us == NO_TIME
                or stream_ms - last_ms > rules.idle_timeout_ms
                or stream_ms - marks[needed] > rules.max_age_ms
                or time_us < last_us - rules.max_lateness_us
                or time_us > last_us + rules.max_gap_us
            )
            late = not new and time_us <= last_us
            opens.append(new)
            taken.append(not late)
            if late:
                dropped = True
                continue
            if new:
                if dropped and last_us != NO_TIME:
                    self._pin(slot, (last_offset, last_ms), stream_ms, marks[needed])
                first_block = -(-time_us // period_us) // self.hop
                marks = {first_block: stream_ms}
            else:
                for block in range(last_us // block_us + 1, time_us // block_us + 1):
                    marks[block] = last_ms
                    marks.pop(block - self._marks, None)
            last_us, last_ms, last_offset, dropped = time_us, stream_ms, offset, False
            needed = max(first_block, (last_us + period_us) // block_us - self.history_blocks)
        self._dropped[slot] = dropped
        return opens, taken

    def _pin(self, slot: np.intp, last: tuple[int, int], stream_ms: int, needed_ms: int) -> None:
        # Late readings were dropped because of the last reading, which the new window does not
        # need. A replay that began among them would take them, so it has to begin before them
        # until the window that it would open with the first of them would be idle.
        old = needed_ms <= self._pin_until_ms[slot]
        bounded = stream_ms - self._pin_since_ms[slot] <= self.rules.max_age_ms
        if not (old and bounded):
            self._pin_offset[slot], self._pin_stream_ms[slot] = last
            self._pin_since_ms[slot] = stream_ms
        self._pin_until_ms[slot] = stream_ms + self.rules.idle_timeout_ms

    def _remember(
        self, readings: Readings, opens: NDArray[np.bool_], heads: NDArray[np.intp]
    ) -> Admitted:
        """Link each reading with the one before it, and keep the last of each device."""
        time_us = readings.time_us
        tails = np.append(heads, len(readings))[1:] - 1
        slots = readings.slot[heads]
        first = np.flatnonzero(opens)

        def shift(values: NDArray[Any], last: NDArray[Any]) -> NDArray[Any]:
            previous = np.empty_like(values)
            previous[1:] = values[:-1]
            previous[heads] = last[slots]
            previous[first] = values[first]
            last[slots] = values[tails]
            return previous

        previous_axes = shift(readings.axes, self.last_axes)
        previous_offset = shift(readings.offset, self.last_offset)
        previous_ms = shift(readings.stream_ms, self.last_stream_ms)
        previous_us = shift(time_us, self.last_us)
        previous_us[first] -= 1
        self.opened += len(first)

        begins = opens.copy()
        begins[heads] = True
        window = np.cumsum(begins) - 1
        begins_at = np.flatnonzero(begins)
        opening_sample = -(-time_us[begins_at] // self.period_us)
        first_sample = np.where(
            opens[begins_at], opening_sample, self.first_sample[readings.slot[begins_at]]
        )
        self.first_sample[readings.slot[begins_at]] = first_sample

        # A block rests on the reading before its first sample; the one in which a window's
        # samples begin rests on the window's first reading.
        block_us = self.period_us * self.hop
        begin, end = previous_us // block_us + 1, time_us // block_us
        begin[first] = end[first] = -(-time_us[first] // self.period_us) // self.hop
        rows, block = expand_spans(begin, end)
        mark = (readings.slot[rows], block % self._marks)
        self._mark_offset[mark] = previous_offset[rows]
        self._mark_stream_ms[mark] = previous_ms[rows]
        return Admitted(readings, window, first_sample[window], previous_us, previous_axes)

    def _needed(self, slots: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offset and stream time of the oldest reading that each window still needs."""
        following = (self.last_us[slots] // self.period_us + 1) // self.hop
        block = np.maximum(self.first_sample[slots] // self.hop, following - self.history_blocks)
        mark = (slots, block % self._marks)
        return self._mark_offset[mark], self._mark_stream_ms[mark]

    def history(self, slots: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Input offset from which each device's readings are still needed, and stream time there.

        Feeding a new detector from there, or from any earlier point, gives the same later steps.

        Parameters
        ----------
        slots : (n,) intp
            Devices that have delivered something.

        Returns
        -------
        (n,) int64, (n,) int64
        """
        return self._pinned(slots, *self._needed(slots))

    def _pinned(
        self, slots: NDArray[np.intp], offset: NDArray[np.int64], stream_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """What each window needs, or its pin, where that is older and still holds."""
        pinned = (stream_ms <= self._pin_until_ms[slots]) & (self._pin_offset[slots] < offset)
        return (
            np.where(pinned, self._pin_offset[slots], offset),
            np.where(pinned, self._pin_stream_ms[slots], stream_ms),
        )

    def replay_point(self, slots: NDArray[np.intp], stream_ms: int) -> tuple[int, int] | None:
        """Oldest input offset that any of these devices still needs, and stream time there.

        Parameters
        ----------
        slots : (n,) intp
            The devices of a partition.
        stream_ms
            Its stream time: a device that is idle by then, or whose window is too old, starts
            anew with its next reading and needs nothing.

        Returns
        -------
        tuple of int, or None
            None if no device needs anything.
        """
        slots = slots[
            (self.last_us[slots] != NO_TIME)
            & (stream_ms - self.last_stream_ms[slots] <= self.rules.idle_timeout_ms)
        ]
        offset, offset_ms = self._needed(slots)
        live = stream_ms - offset_ms <= self.rules.max_age_ms
        if not live.any():
            return None
        offset, offset_ms = self._pinned(slots[live], offset[live], offset_ms[live])
        oldest = int(offset.argmin())
        return int(offset[oldest]), int(offset_ms[oldest])
