"""Windows of devices: which readings are accepted, and which open a new window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from stepstream.detection.columns import first_rows
from stepstream.detection.history import NO_TIME, History
from stepstream.detection.model import AXES
from stepstream.detection.slots import SlotTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings
    from stepstream.detection.counters import Counters
    from stepstream.detection.rules import Rules

    Flags = NDArray[np.bool_]

__all__ = ["Admitted", "Newest", "Windows"]

NO_PLACE = -1
"""Stands for the index of a sample that there is not."""

N = TypeVar("N", int, "NDArray[np.int64]")
R = TypeVar("R", bound="Readings")


class Admitted(NamedTuple, Generic[R]):
    """Accepted readings, sorted by device, each with the reading before it.

    A reading that opens a window has none before it: the reading itself is used in its place, one
    microsecond earlier.

    Attributes
    ----------
    readings
        The n readings.
    window : (n,) intp
        Numbers of the windows that they belong to, ascending.
    first_sample : (n,) int64
        Index of the first sample of that window.
    previous_us : (n,) int64
        Time of the reading before.
    previous_axes : (n, axes) float32
        Its values.
    opens : (n,) bool
        Whether the reading opens its window.
    """

    readings: R
    window: NDArray[np.intp]
    first_sample: NDArray[np.int64]
    previous_us: NDArray[np.int64]
    previous_axes: NDArray[np.float32]
    opens: Flags


class Newest(NamedTuple):
    """The last reading of each of n devices, and its window.

    Attributes
    ----------
    place : (n,) int64
        Index of the last sample up to it; `NO_PLACE` where a device has no window.
    first_sample : (n,) int64
        Index of the first sample of the window.
    offset, stream_ms : (n,) int64
        Input offset of the reading, and stream time there.
    """

    place: NDArray[np.int64]
    first_sample: NDArray[np.int64]
    offset: NDArray[np.int64]
    stream_ms: NDArray[np.int64]


@dataclass(slots=True)
class _Devices(SlotTable):
    """The last reading of each device, and its window.

    ``last_us`` is `NO_TIME` where a device has no window. ``has_dropped`` says that late readings
    followed the last one.
    """

    last_us: NDArray[np.int64]
    last_axes: NDArray[np.float32]
    last_offset: NDArray[np.int64]
    last_stream_ms: NDArray[np.int64]
    first_sample: NDArray[np.int64]
    has_dropped: Flags


class Windows:
    """The windows of many devices.

    Parameters
    ----------
    rules
        When readings belong together.
    counters
        Where windows, gaps and late readings are counted.
    period_us
        Time between two samples.
    hop_samples
        Samples of a hop.
    history_hops
        How many hops before the next one the steps of that one can depend on.
    axes
        Values of a reading.
    """

    def __init__(
        self,
        rules: Rules,
        counters: Counters,
        period_us: int,
        hop_samples: int,
        history_hops: int,
        axes: int = AXES,
    ) -> None:
        self._rules = rules
        self._counters = counters
        self._period_us = period_us
        self._hop_samples = hop_samples
        self._hop_us = period_us * hop_samples
        self._history = History(rules, history_hops)
        self._devices = _Devices(
            last_us=np.empty(0, np.int64),
            last_axes=np.empty((0, axes), np.float32),
            last_offset=np.empty(0, np.int64),
            last_stream_ms=np.empty(0, np.int64),
            first_sample=np.empty(0, np.int64),
            has_dropped=np.empty(0, np.bool_),
        )

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._devices.resize(capacity)
        self._history.resize(capacity)

    def clear(self, slots: NDArray[np.intp]) -> None:
        """Drop the windows in ``slots``."""
        self._devices.last_us[slots] = NO_TIME
        self._devices.has_dropped[slots] = False
        self._history.clear(slots)

    def bounds(self, slot: int) -> tuple[int, int] | None:
        """Index of the first sample of a device's window, and time of its last reading."""
        last_us = int(self._devices.last_us[slot])
        return None if last_us == NO_TIME else (int(self._devices.first_sample[slot]), last_us)

    def find_idle(self, slots: NDArray[np.intp], stream_ms: int) -> NDArray[np.intp]:
        """Those of the devices that are idle or have no window."""
        return slots[self.is_idle(slots, stream_ms)]

    def is_idle(self, slots: NDArray[np.intp], stream_ms: int | NDArray[np.int64]) -> Flags:
        """Whether each device is idle or has no window, at one stream time or one for each."""
        idle = self._rules.is_idle(self._devices.last_stream_ms[slots], stream_ms)
        idle[self._devices.last_us[slots] == NO_TIME] = True
        return idle

    def replay_point(self, slots: NDArray[np.intp], stream_ms: int) -> tuple[int, int] | None:
        """See `Detector.replay_point`."""
        slots = slots[~self.is_idle(slots, stream_ms)]
        return self._history.replay_point(slots, self.needed_hop(slots), stream_ms)

    def newest(self, slots: NDArray[np.intp]) -> Newest:
        """The last reading of each device."""
        devices = self._devices
        last_us = devices.last_us[slots]
        return Newest(
            np.where(last_us == NO_TIME, NO_PLACE, last_us // self._period_us),
            devices.first_sample[slots],
            devices.last_offset[slots],
            devices.last_stream_ms[slots],
        )

    def base(self, slots: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Offset and stream time of the oldest reading that each window needs."""
        return self._history.base(slots, self.needed_hop(slots))

    def from_pins(
        self, slots: NDArray[np.intp], offset: NDArray[np.int64], needed_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `History.from_pins`."""
        return self._history.from_pins(slots, offset, needed_ms)

    def admit(self, readings: R) -> Admitted[R]:
        """Evaluate the rules for readings, sorted by slot; remember the last one of each device.

        The rules are defined reading by reading, in the order of arrival. Nearly all devices
        deliver in order: for these, all readings are evaluated at once. The other devices are
        walked through, one reading after the other.
        """
        heads = first_rows(readings.slot)
        opens, accepted = self._evaluate(readings, heads)
        if accepted is not None:
            self._counters.late_readings += len(accepted) - int(np.count_nonzero(accepted))
            readings, opens = readings.take(accepted), opens[accepted]
            heads = first_rows(readings.slot)
        return self._remember(readings, opens, heads)

    def _evaluate(self, readings: Readings, heads: NDArray[np.intp]) -> tuple[Flags, Flags | None]:
        """Which readings open a window, and which are accepted (None: all)."""
        rules, devices = self._rules, self._devices
        slot, time_us, stream_ms = readings.slot, readings.time_us, readings.stream_ms
        slots = slot[heads]
        previous_us = _shift(time_us, heads, devices.last_us[slots])
        previous_ms = _shift(stream_ms, heads, devices.last_stream_ms[slots])
        fresh = previous_us == NO_TIME
        opens = (
            fresh
            | (time_us - np.where(fresh, 0, previous_us) > rules.max_gap_us)
            | rules.is_idle(previous_ms, stream_ms)
        )
        disorder = np.logical_or.reduceat(time_us <= previous_us, heads)
        ends = np.append(heads, len(slot))[1:]
        _, base_ms = self.base(slots)
        needed_ms = np.where(fresh[heads], stream_ms[heads], base_ms)
        aged = rules.is_too_old(needed_ms, stream_ms[ends - 1])
        walk = np.flatnonzero(disorder | aged | devices.has_dropped[slots])
        if not len(walk):
            return opens, None
        accepted = np.ones(len(slot), np.bool_)
        for device in walk:
            rows = slice(heads[device], ends[device])
            opens[rows], accepted[rows] = self._walk(readings.take(rows))
        return opens, accepted

    def _walk(self, readings: Readings) -> tuple[list[bool], list[bool]]:
        """Evaluate the rules for readings of one device, one after the other."""
        rules, devices, history = self._rules, self._devices, self._history
        period_us, hop_us = self._period_us, self._hop_us
        slot = int(readings.slot[0])
        last_us, last_ms = int(devices.last_us[slot]), int(devices.last_stream_ms[slot])
        last_offset, has_dropped = int(devices.last_offset[slot]), bool(devices.has_dropped[slot])
        opening_hop = int(devices.first_sample[slot]) // self._hop_samples
        needed_hop = max(opening_hop, (last_us + period_us) // hop_us - history.hops)
        newest_hop = max(opening_hop, last_us // hop_us)
        base_ms = history.bases_ms(slot, range(needed_hop, newest_hop + 1))
        opens, accepted = [], []
        columns = (readings.time_us, readings.stream_ms, readings.offset)
        for time_us, stream_ms, offset in zip(*(c.tolist() for c in columns), strict=True):
            new = (
                last_us == NO_TIME
                or time_us < last_us - rules.max_lateness_us
                or time_us > last_us + rules.max_gap_us
                or rules.is_idle(last_ms, stream_ms)
                or rules.is_too_old(base_ms[needed_hop], stream_ms)
            )
            late = not new and time_us <= last_us
            opens.append(new)
            accepted.append(not late)
            if late:
                has_dropped = True
                continue
            if new:
                if has_dropped and last_us != NO_TIME:
                    history.pin(slot, (last_offset, last_ms), stream_ms, base_ms[needed_hop])
                opening_hop = _sample_from(time_us, period_us) // self._hop_samples
                base_ms = {opening_hop: stream_ms}
            else:
                for hop in range(last_us // hop_us + 1, time_us // hop_us + 1):
                    base_ms[hop] = last_ms
                    base_ms.pop(hop - history.hops - 1, None)
            last_us, last_ms, last_offset, has_dropped = time_us, stream_ms, offset, False
            needed_hop = max(opening_hop, (last_us + period_us) // hop_us - history.hops)
        devices.has_dropped[slot] = has_dropped
        return opens, accepted

    def _remember(self, readings: R, opens: Flags, heads: NDArray[np.intp]) -> Admitted[R]:
        """Link each reading with the one before it, and keep the last one of each device."""
        devices, time_us = self._devices, readings.time_us
        slots = readings.slot[heads]
        first = np.flatnonzero(opens)
        self._count(len(first), slots)
        tails = np.append(heads, len(readings))[1:] - 1

        def link(values: NDArray[Any], last: NDArray[Any]) -> NDArray[Any]:
            previous = _shift(values, heads, last[slots])
            previous[first] = values[first]
            last[slots] = values[tails]
            return previous

        previous_axes = link(readings.axes, devices.last_axes)
        previous_offset = link(readings.offset, devices.last_offset)
        previous_ms = link(readings.stream_ms, devices.last_stream_ms)
        previous_us = link(time_us, devices.last_us)
        previous_us[first] -= 1

        begins = opens.copy()
        begins[heads] = True
        window = np.cumsum(begins) - 1
        begin = np.flatnonzero(begins)
        first_sample = np.where(
            opens[begin],
            _sample_from(time_us[begin], self._period_us),
            devices.first_sample[readings.slot[begin]],
        )
        devices.first_sample[readings.slot[begin]] = first_sample

        first_hop, last_hop = previous_us // self._hop_us + 1, time_us // self._hop_us
        opening_hop = _sample_from(time_us[first], self._period_us) // self._hop_samples
        first_hop[first] = last_hop[first] = opening_hop
        bases = (previous_offset, previous_ms)
        self._history.note(readings.slot, first_hop, last_hop, bases)
        return Admitted(readings, window, first_sample[window], previous_us, previous_axes, opens)

    def _count(self, opened: int, slots: NDArray[np.intp]) -> None:
        """Count windows that these devices open; for one without a window it is no gap."""
        if opened:
            added = int(np.count_nonzero(self._devices.last_us[slots] == NO_TIME))
            self._counters.windows_opened += opened
            self._counters.gaps += opened - added

    def needed_hop(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """The oldest hop that the next steps of each device can depend on."""
        next_hop = (self._devices.last_us[slots] // self._period_us + 1) // self._hop_samples
        opening_hop = self._devices.first_sample[slots] // self._hop_samples
        return np.maximum(opening_hop, next_hop - self._history.hops)


def _shift(values: NDArray[Any], heads: NDArray[np.intp], before: NDArray[Any]) -> NDArray[Any]:
    """The value before each one; ``before`` has that of the first of each device."""
    previous = np.empty_like(values)
    previous[1:] = values[:-1]
    previous[heads] = before
    return previous


def _sample_from(time_us: N, period_us: int) -> N:
    """Index of the first sample at that time or later."""
    return -(-time_us // period_us)
