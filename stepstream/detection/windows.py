"""Windows of devices: which readings are accepted, and which open a new window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

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

__all__ = ["Admitted", "Windows"]

NO_SPAN = -1
"""Stands for the span of a message that there is not."""

N = TypeVar("N", int, "NDArray[np.int64]")


class Admitted(NamedTuple):
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
    previous_axes : (n, 6) float32
        Its values.
    bridged : (k,) intp
        Rows of the readings that follow a gap which is bridged.
    """

    readings: Readings
    window: NDArray[np.intp]
    first_sample: NDArray[np.int64]
    previous_us: NDArray[np.int64]
    previous_axes: NDArray[np.float32]
    bridged: NDArray[np.intp]


@dataclass(slots=True)
class _Devices(SlotTable):
    """The last reading of each device, and its window.

    ``last_us`` is `NO_TIME` where a device has no window. ``whole_after_us`` is the time of the
    last reading that followed a gap or opened a window. ``last_span_ms`` is the span of the last
    reading's message. ``dropped_span_ms`` is the longest span of the messages of late readings
    that followed it, `NO_SPAN` if there were none.
    """

    last_us: NDArray[np.int64]
    last_axes: NDArray[np.float32]
    last_offset: NDArray[np.int64]
    last_stream_ms: NDArray[np.int64]
    first_sample: NDArray[np.int64]
    last_span_ms: NDArray[np.int64]
    whole_after_us: NDArray[np.int64]
    dropped_span_ms: NDArray[np.int64]


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
    bridge_samples
        Samples without a gap that a gap must follow to be bridged; 0 if gaps are never bridged.
    """

    def __init__(
        self,
        rules: Rules,
        counters: Counters,
        period_us: int,
        hop_samples: int,
        history_hops: int,
        *,
        bridge_samples: int = 0,
    ) -> None:
        self._rules = rules
        self._counters = counters
        self._period_us = period_us
        self._hop_samples = hop_samples
        self._hop_us = period_us * hop_samples
        self._bridge_samples = bridge_samples
        self._history = History(rules, history_hops)
        self._devices = _Devices(
            last_us=np.empty(0, np.int64),
            last_axes=np.empty((0, AXES), np.float32),
            last_offset=np.empty(0, np.int64),
            last_stream_ms=np.empty(0, np.int64),
            first_sample=np.empty(0, np.int64),
            last_span_ms=np.empty(0, np.int64),
            whole_after_us=np.empty(0, np.int64),
            dropped_span_ms=np.empty(0, np.int64),
        )

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._devices.resize(capacity)
        self._history.resize(capacity)

    def clear(self, slots: NDArray[np.intp]) -> None:
        """Drop the windows in ``slots``."""
        self._devices.last_us[slots] = NO_TIME
        self._devices.last_span_ms[slots] = 0
        self._devices.dropped_span_ms[slots] = NO_SPAN
        self._history.clear(slots)

    def bounds(self, slot: int) -> tuple[int, int] | None:
        """Index of the first sample of a device's window, and time of its last reading."""
        last_us = int(self._devices.last_us[slot])
        return None if last_us == NO_TIME else (int(self._devices.first_sample[slot]), last_us)

    def find_idle(self, slots: NDArray[np.intp], stream_ms: int) -> NDArray[np.intp]:
        """Those of the devices that are idle or have no window."""
        return slots[self._is_idle(slots, stream_ms)]

    def _is_idle(self, slots: NDArray[np.intp], stream_ms: int) -> Flags:
        devices = self._devices
        last_ms = devices.last_stream_ms[slots] + devices.last_span_ms[slots]
        idle = self._rules.is_idle(last_ms, stream_ms)
        idle[devices.last_us[slots] == NO_TIME] = True
        return idle

    def replay_point(self, slots: NDArray[np.intp], stream_ms: int) -> tuple[int, int] | None:
        """See `Detector.replay_point`."""
        slots = slots[~self._is_idle(slots, stream_ms)]
        spans_ms = self._devices.last_span_ms[slots]
        return self._history.replay_point(slots, self._needed_hop(slots), spans_ms, stream_ms)

    def admit(self, readings: Readings) -> Admitted:
        """Evaluate the rules for readings, sorted by slot; remember the last one of each device.

        The rules are defined reading by reading, in the order of arrival. Nearly all devices
        deliver in order: for these, all readings are evaluated at once. The other devices are
        walked through, one reading after the other.
        """
        heads = first_rows(readings.slot)
        opens, bridged, accepted = self._evaluate(readings, heads)
        if accepted is not None:
            self._counters.late_readings += len(accepted) - int(np.count_nonzero(accepted))
            readings = readings.take(accepted)
            opens, bridged = opens[accepted], bridged[accepted]
            heads = first_rows(readings.slot)
        return self._remember(readings, opens, bridged, heads)

    def _evaluate(
        self, readings: Readings, heads: NDArray[np.intp]
    ) -> tuple[Flags, Flags, Flags | None]:
        """Which readings open a window, follow a bridged gap, and are accepted (None: all)."""
        rules, devices = self._rules, self._devices
        slot, time_us, stream_ms = readings.slot, readings.time_us, readings.stream_ms
        slots = slot[heads]
        previous_us = _shift(time_us, heads, devices.last_us[slots])
        previous_ms = _shift(stream_ms, heads, devices.last_stream_ms[slots])
        span_ms = _shift(readings.span_ms, heads, devices.last_span_ms[slots])
        fresh = previous_us == NO_TIME
        pause_us = time_us - np.where(fresh, 0, previous_us)
        idle = rules.is_idle(previous_ms + span_ms, stream_ms)
        starts = fresh | (pause_us > rules.max_gap_us) | idle
        opens = starts | (pause_us > rules.interpolated_us)
        bridged = self._find_bridged(readings, previous_us, opens, opens & ~starts)
        opens &= ~bridged
        disorder = np.logical_or.reduceat(time_us <= previous_us, heads)
        ends = np.append(heads[1:], len(slot))
        _, base_ms = self._history.base(slots, self._needed_hop(slots))
        needed_ms = np.where(fresh[heads], stream_ms[heads], base_ms)
        needed_ms += np.minimum.reduceat(span_ms, heads)
        aged = rules.is_too_old(needed_ms, stream_ms[ends - 1])
        has_dropped = devices.dropped_span_ms[slots] != NO_SPAN
        walk = np.flatnonzero(disorder | aged | has_dropped)
        if not len(walk):
            return opens, bridged, None
        accepted = np.ones(len(slot), np.bool_)
        for device in walk:
            rows = slice(heads[device], ends[device])
            opens[rows], bridged[rows], accepted[rows] = self._walk(readings.take(rows))
        return opens, bridged, accepted

    def _find_bridged(
        self, readings: Readings, previous_us: NDArray[np.int64], breaks: Flags, short: Flags
    ) -> Flags:
        """Which readings follow a gap that is bridged.

        Parameters
        ----------
        readings
            Sorted by slot.
        previous_us : (n,) int64
            Times of the readings before.
        breaks : (n,) bool
            Which readings follow a gap of any length, or open a window for another reason.
        short : (n,) bool
            Those of them that follow a gap short enough to be bridged.
        """
        bridged = np.zeros(len(breaks), np.bool_)
        if self._bridge_samples and short.any():
            rows = np.flatnonzero(breaks)
            heads = first_rows(readings.slot[rows])
            known_us = self._devices.whole_after_us[readings.slot[rows[heads]]]
            whole_after_us = _shift(readings.time_us[rows], heads, known_us)
            first = self._first_repeated_hop(previous_us[rows])
            bridged[rows] = short[rows] & (first * self._hop_us > whole_after_us)
        return bridged

    def _first_repeated_hop(self, last_us: N) -> N:
        """The first hop of what is repeated in a gap, if the last reading before it is this one.

        Its samples must be whole, and so must the reading before it. So what is repeated never
        depends on what was repeated in an earlier gap.
        """
        return (last_us // self._period_us + 1 - self._bridge_samples) // self._hop_samples

    def _walk(self, readings: Readings) -> tuple[list[bool], list[bool], list[bool]]:
        """Evaluate the rules for readings of one device, one after the other."""
        rules, devices, history = self._rules, self._devices, self._history
        period_us, hop_us = self._period_us, self._hop_us
        slot = int(readings.slot[0])
        last_us, last_ms = int(devices.last_us[slot]), int(devices.last_stream_ms[slot])
        last_offset, last_span_ms = int(devices.last_offset[slot]), int(devices.last_span_ms[slot])
        dropped_ms = int(devices.dropped_span_ms[slot])
        opening_hop = int(devices.first_sample[slot]) // self._hop_samples
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
                or rules.is_too_old(base_ms[needed_hop] + last_span_ms, stream_ms)
            )
            bridges = not new and time_us > last_us + rules.interpolated_us
            if bridges:
                repeated_hop = self._first_repeated_hop(last_us)
                is_whole = repeated_hop * hop_us > whole_after_us
                bridges = self._bridge_samples > 0 and is_whole
                new = not bridges
            late = not new and time_us <= last_us
            opens.append(new)
            bridged.append(bridges)
            accepted.append(not late)
            if late:
                dropped_ms = max(dropped_ms, span_ms)
                continue
            if new:
                if dropped_ms != NO_SPAN and last_us != NO_TIME:
                    last = (last_offset, last_ms)
                    history.pin(slot, last, stream_ms, base_ms[needed_hop], dropped_ms)
                opening_hop = _sample_from(time_us, period_us) // self._hop_samples
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
            dropped_ms = NO_SPAN
            needed_hop = max(opening_hop, (last_us + period_us) // hop_us - history.hops)
        devices.dropped_span_ms[slot] = dropped_ms
        return opens, bridged, accepted

    def _remember(
        self, readings: Readings, opens: Flags, bridged: Flags, heads: NDArray[np.intp]
    ) -> Admitted:
        """Link each reading with the one before it, and keep the last one of each device."""
        devices, time_us = self._devices, readings.time_us
        slots = readings.slot[heads]
        first = np.flatnonzero(opens)
        gaps = np.flatnonzero(bridged)
        self._count(len(first), slots)
        self._counters.bridged_gaps += len(gaps)
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
        devices.last_span_ms[slots] = readings.span_ms[tails]
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
        breaks = np.flatnonzero(opens | bridged) if len(gaps) else first
        devices.whole_after_us[readings.slot[breaks]] = time_us[breaks]
        bases = (previous_offset, previous_ms)
        if len(gaps):
            # The hops from what is repeated on rest on the base of its first hop.
            hop = self._first_repeated_hop(previous_us[gaps])
            of_hop = self._history.find_bases(
                hop, gaps, begin[window[gaps]], readings.slot, (first_hop, last_hop), bases
            )
            first_hop[gaps] = hop
            for values, base in zip(bases, of_hop, strict=True):
                values[gaps] = base
        self._history.note(readings.slot, first_hop, last_hop, bases)
        return Admitted(readings, window, first_sample[window], previous_us, previous_axes, gaps)

    def _count(self, opened: int, slots: NDArray[np.intp]) -> None:
        """Count windows that these devices open; for one without a window it is no gap."""
        if opened:
            added = int(np.count_nonzero(self._devices.last_us[slots] == NO_TIME))
            self._counters.windows_opened += opened
            self._counters.gaps += opened - added

    def _needed_hop(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
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
