"""The rules for readings: which are accepted, which open a window, and which gaps are bridged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

from stepstream.detection.columns import first_rows, shift
from stepstream.detection.history import NO_TIME
from stepstream.detection.slots import SlotTable
from stepstream.detection.stretches import Stretches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings
    from stepstream.detection.history import History
    from stepstream.detection.rules import Rules

    Flags = NDArray[np.bool_]

__all__ = ["Admission", "Evaluated", "Grid", "LastReadings"]

N = TypeVar("N", int, "NDArray[np.int64]")
R = TypeVar("R", bound="Readings")


@dataclass(slots=True)
class LastReadings(SlotTable):
    """The last reading of each device, and its window.

    ``last_us`` is `NO_TIME` where a device has no window. ``whole_after_us`` is the time of the
    last reading that followed a gap or opened a window. ``last_span_ms`` is the span of the last
    reading's message. ``dropped_until_ms`` is the latest stream time of the messages of late
    readings that followed it, their spans added, `NO_TIME` if there were none.
    """

    last_us: NDArray[np.int64]
    last_axes: NDArray[np.float32]
    last_offset: NDArray[np.int64]
    last_stream_ms: NDArray[np.int64]
    first_sample: NDArray[np.int64]
    last_span_ms: NDArray[np.int64]
    whole_after_us: NDArray[np.int64]
    dropped_until_ms: NDArray[np.int64]

    @classmethod
    def of(cls, axes: int) -> LastReadings:
        """An empty table for readings with so many values."""
        numbers = (np.empty(0, np.int64) for _ in range(7))
        return cls(next(numbers), np.empty((0, axes), np.float32), *numbers)


class Grid(NamedTuple):
    """The model's time grid.

    ``period_us`` is the time between two samples, ``hop_samples`` the samples of a hop, and
    ``bridge_samples`` are those without a gap that a gap must follow to be bridged; 0 if gaps are
    never bridged.
    """

    period_us: int
    hop_samples: int
    bridge_samples: int = 0

    @property
    def hop_us(self) -> int:
        """Time of a hop."""
        return self.period_us * self.hop_samples

    def sample_from(self, time_us: N) -> N:
        """Index of the first sample at that time or later."""
        return -(-time_us // self.period_us)

    def first_repeated_hop(self, last_us: N) -> N:
        """The first hop of what is repeated in a gap, if the last reading before it is this one.

        Its samples must be whole, and so must the reading before it. So what is repeated never
        depends on what was repeated in an earlier gap.
        """
        return (last_us // self.period_us + 1 - self.bridge_samples) // self.hop_samples


class Evaluated(NamedTuple, Generic[R]):
    """Accepted readings and what the rules say of them.

    Attributes
    ----------
    readings
        The readings without the late ones.
    stretches
        Their k stretches.
    opens, bridged : (k,) bool
        Which stretches open a window, and which follow a gap that is bridged.
    """

    readings: R
    stretches: Stretches
    opens: Flags
    bridged: Flags


class Admission:
    """Evaluates the rules for readings, by the last reading and the history of each device.

    Parameters
    ----------
    rules
        When readings belong together.
    grid
        The time grid.
    devices
        The last readings.
    history
        What each hop rests on.
    """

    def __init__(self, rules: Rules, grid: Grid, devices: LastReadings, history: History) -> None:
        self._rules = rules
        self._grid = grid
        self._devices = devices
        self._history = history

    def needed_hop(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """The oldest hop that the next steps of each device can depend on."""
        grid = self._grid
        next_hop = (self._devices.last_us[slots] // grid.period_us + 1) // grid.hop_samples
        opening_hop = self._devices.first_sample[slots] // grid.hop_samples
        return np.maximum(opening_hop, next_hop - self._history.hops)

    def evaluate(self, readings: R) -> Evaluated[R]:
        """Evaluate the rules for readings, in which those of a device stand together.

        The rules are defined reading by reading, in the order of arrival. Nearly all devices
        deliver in order: for these, all stretches are evaluated at once. The other devices are
        walked through, one reading after the other.
        """
        longest_us = self._rules.interpolated_us
        stretches = Stretches.of(readings, longest_us)
        opens, bridged, walk = self._evaluate(stretches)
        if not len(walk):
            return Evaluated(readings, stretches, opens, bridged)
        of_readings = np.zeros((4, len(readings)), np.bool_)
        every_opens, every_bridged, accepted, apart = of_readings
        every_opens[stretches.begin], every_bridged[stretches.begin] = opens, bridged
        accepted[:] = True
        begins, ends = stretches.begin[stretches.heads], stretches.end[stretches.tails]
        for device in walk:
            rows = slice(begins[device], ends[device])
            of_readings[:3, rows] = self._walk(readings.take(rows))
            apart[rows] = True
        readings, of_readings = readings.take(accepted), of_readings[:, accepted]
        every_opens, every_bridged, _, apart = of_readings
        stretches = Stretches.of(readings, longest_us, apart)
        return Evaluated(
            readings, stretches, every_opens[stretches.begin], every_bridged[stretches.begin]
        )

    def _evaluate(self, stretches: Stretches) -> tuple[Flags, Flags, NDArray[np.intp]]:
        """Which stretches open a window, which follow a bridged gap, and devices to walk through.

        The devices are numbered as they come; what is said of their stretches is of no use.
        """
        rules, devices, heads = self._rules, self._devices, stretches.heads
        first_us, stream_ms, slots = stretches.first_us, stretches.stream_ms, stretches.slot[heads]
        previous_us = shift(stretches.last_us, heads, devices.last_us[slots])
        previous_ms = shift(stream_ms, heads, devices.last_stream_ms[slots])
        span_ms = shift(stretches.span_ms, heads, devices.last_span_ms[slots])
        fresh = previous_us == NO_TIME
        pause_us = first_us - np.where(fresh, 0, previous_us)
        idle = rules.is_idle(previous_ms + span_ms, stream_ms)
        starts = fresh | (pause_us > rules.max_gap_us) | idle
        opens = starts | (pause_us > rules.interpolated_us)
        bridged = self._find_bridged(stretches, previous_us, opens, opens & ~starts)
        opens &= ~bridged
        disorder = np.logical_or.reduceat(first_us <= previous_us, heads)
        _, base_ms = self._history.base(slots, self.needed_hop(slots))
        needed_ms = np.where(fresh[heads], stream_ms[heads], base_ms)
        needed_ms += np.minimum.reduceat(span_ms, heads)
        aged = rules.is_too_old(needed_ms, stream_ms[stretches.tails])
        has_dropped = devices.dropped_until_ms[slots] != NO_TIME
        return opens, bridged, np.flatnonzero(disorder | aged | has_dropped)

    def _find_bridged(
        self, stretches: Stretches, previous_us: NDArray[np.int64], breaks: Flags, short: Flags
    ) -> Flags:
        """Which stretches follow a gap that is bridged.

        Parameters
        ----------
        stretches
            The k stretches.
        previous_us : (k,) int64
            Times of the readings before them.
        breaks : (k,) bool
            Which of them follow a gap of any length, or open a window for another reason.
        short : (k,) bool
            Those of them that follow a gap short enough to be bridged.
        """
        grid = self._grid
        bridged = np.zeros(len(breaks), np.bool_)
        if grid.bridge_samples and short.any():
            rows = np.flatnonzero(breaks)
            slot = stretches.slot[rows]
            heads = first_rows(slot)
            known_us = self._devices.whole_after_us[slot[heads]]
            whole_after_us = shift(stretches.first_us[rows], heads, known_us)
            first = grid.first_repeated_hop(previous_us[rows])
            bridged[rows] = short[rows] & (first * grid.hop_us > whole_after_us)
        return bridged

    def _walk(self, readings: Readings) -> tuple[list[bool], list[bool], list[bool]]:
        """Evaluate the rules for readings of one device, one after the other."""
        rules, devices, history, grid = self._rules, self._devices, self._history, self._grid
        period_us, hop_us = grid.period_us, grid.hop_us
        slot = int(readings.slot[0])
        last_us, last_ms = int(devices.last_us[slot]), int(devices.last_stream_ms[slot])
        last_offset, last_span_ms = int(devices.last_offset[slot]), int(devices.last_span_ms[slot])
        dropped_until_ms = int(devices.dropped_until_ms[slot])
        opening_hop = int(devices.first_sample[slot]) // grid.hop_samples
        whole_after_us = int(devices.whole_after_us[slot])
        needed_hop = max(opening_hop, (last_us + period_us) // hop_us - history.hops)
        newest_hop = max(opening_hop, last_us // hop_us)
        base_ms = history.bases_ms(slot, range(needed_hop, newest_hop + 1))
        opens, bridged, accepted = [], [], []
        columns = (readings.time_us, readings.stream_ms, readings.offset, readings.span_ms)
        for time_us, stream_ms, offset, span_ms in zip(*(c.tolist() for c in columns), strict=True):
            new = (
                last_us == NO_TIME
                or time_us < last_us - rules.max_lateness_us
                or time_us > last_us + rules.max_gap_us
                or rules.is_idle(last_ms + last_span_ms, stream_ms)
                or (
                    # Within a message, the window gets no older.
                    stream_ms > last_ms
                    and rules.is_too_old(base_ms[needed_hop] + last_span_ms, stream_ms)
                )
            )
            bridges = not new and time_us > last_us + rules.interpolated_us
            if bridges:
                repeated_hop = grid.first_repeated_hop(last_us)
                is_whole = repeated_hop * hop_us > whole_after_us
                bridges = grid.bridge_samples > 0 and is_whole
                new = not bridges
            late = not new and time_us <= last_us
            opens.append(new)
            bridged.append(bridges)
            accepted.append(not late)
            if late:
                dropped_until_ms = max(dropped_until_ms, stream_ms + span_ms)
                continue
            if new:
                if NO_TIME not in (dropped_until_ms, last_us):
                    last, left_ms = (last_offset, last_ms), max(0, dropped_until_ms - stream_ms)
                    history.pin(slot, last, stream_ms, base_ms[needed_hop], left_ms)
                opening_hop = grid.sample_from(time_us) // grid.hop_samples
                base_ms = {opening_hop: stream_ms}
            else:
                begin, base = last_us // hop_us + 1, last_ms
                if bridges:
                    begin, base = repeated_hop, base_ms[repeated_hop]
                for hop in range(begin, time_us // hop_us + 1):
                    base_ms[hop] = base
                    base_ms.pop(hop - history.hops - 1, None)
            if new or bridges:
                whole_after_us = time_us
            last_us, last_ms, last_offset, last_span_ms = time_us, stream_ms, offset, span_ms
            dropped_until_ms = NO_TIME
            needed_hop = max(opening_hop, (last_us + period_us) // hop_us - history.hops)
        devices.dropped_until_ms[slot] = dropped_until_ms
        return opens, bridged, accepted
