"""Windows of devices: which readings are accepted, and which open a new window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from stepstream.detection.admission import Admission, LastReadings, shift
from stepstream.detection.columns import first_rows
from stepstream.detection.history import NO_TIME, History, oldest
from stepstream.detection.model import AXES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.admission import Grid
    from stepstream.detection.columns import Readings
    from stepstream.detection.counters import Counters
    from stepstream.detection.rules import Rules

    Flags = NDArray[np.bool_]

__all__ = ["Admitted", "Newest", "Windows"]

NO_PLACE = -1
"""Stands for the index of a sample that there is not."""

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
    bridged : (k,) intp
        Rows of the readings that follow a gap which is bridged.
    """

    readings: R
    window: NDArray[np.intp]
    first_sample: NDArray[np.int64]
    previous_us: NDArray[np.int64]
    previous_axes: NDArray[np.float32]
    opens: Flags
    bridged: NDArray[np.intp]


class Newest(NamedTuple):
    """The last reading of each of n devices, and its window.

    Attributes
    ----------
    place : (n,) int64
        Index of the last sample up to it; `NO_PLACE` where a device has no window.
    first_sample : (n,) int64
        Index of the first sample of the window.
    offset, stream_ms, span_ms : (n,) int64
        See `Readings`.
    """

    place: NDArray[np.int64]
    first_sample: NDArray[np.int64]
    offset: NDArray[np.int64]
    stream_ms: NDArray[np.int64]
    span_ms: NDArray[np.int64]


class Windows:
    """The windows of many devices.

    Parameters
    ----------
    rules
        When readings belong together.
    counters
        Where windows, gaps and late readings are counted.
    grid
        The model's time grid.
    history_hops
        How many hops before the next one the steps of that one can depend on.
    axes
        Values of a reading.
    """

    def __init__(
        self,
        rules: Rules,
        counters: Counters,
        grid: Grid,
        history_hops: int,
        axes: int = AXES,
    ) -> None:
        self._rules = rules
        self._counters = counters
        self._grid = grid
        self._history = History(rules, history_hops)
        self._devices = LastReadings.of(axes)
        self._admission = Admission(rules, grid, self._devices, self._history)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._devices.resize(capacity)
        self._history.resize(capacity)

    def clear(self, slots: NDArray[np.intp]) -> None:
        """Drop the windows in ``slots``."""
        self._devices.last_us[slots] = NO_TIME
        self._devices.last_span_ms[slots] = 0
        self._devices.dropped_until_ms[slots] = NO_TIME
        self._history.clear(slots)

    def bounds(self, slot: int) -> tuple[int, int] | None:
        """Index of the first sample of a device's window, and time of its last reading."""
        last_us = int(self._devices.last_us[slot])
        return None if last_us == NO_TIME else (int(self._devices.first_sample[slot]), last_us)

    def is_done(self, slots: NDArray[np.intp], stream_ms: int) -> Flags:
        """Whether each device is idle or has no window, and a replay need not know it either."""
        return self.is_idle(slots, stream_ms) & ~self.needs_last(slots, stream_ms)

    def needs_last(self, slots: NDArray[np.intp], stream_ms: int) -> Flags:
        """Whether each device's last reading is needed although the device may be idle.

        A replay that begins with late readings accepts them. For it, the device is idle later
        than here, and the device's next reading opens no window. So the replay must begin with the
        reading before them, as far as the bound on replays allows.
        """
        devices, rules = self._devices, self._rules
        until_ms = devices.dropped_until_ms[slots]
        has_late = (until_ms != NO_TIME) & (devices.last_us[slots] != NO_TIME)
        last_ms = devices.last_stream_ms[slots] + devices.last_span_ms[slots]
        has_late &= ~rules.is_idle(np.where(has_late, until_ms, stream_ms), stream_ms)
        needs: Flags = has_late & ~rules.is_too_old(last_ms, stream_ms)
        return needs

    def is_idle(self, slots: NDArray[np.intp], stream_ms: int | NDArray[np.int64]) -> Flags:
        """Whether each device is idle or has no window, at one stream time or one for each."""
        devices = self._devices
        last_ms = devices.last_stream_ms[slots] + devices.last_span_ms[slots]
        idle = self._rules.is_idle(last_ms, stream_ms)
        idle[devices.last_us[slots] == NO_TIME] = True
        return idle

    def replay_point(self, slots: NDArray[np.intp], stream_ms: int) -> tuple[int, int] | None:
        """See `Detector.replay_point`."""
        pinned = slots[self.needs_last(slots, stream_ms)]
        slots = slots[~self.is_idle(slots, stream_ms)]
        devices, history = self._devices, self._history
        last = devices.last_stream_ms[slots], devices.last_span_ms[slots]
        points = [history.replay_point(slots, self.needed_hop(slots), last, stream_ms)]
        if len(pinned):
            last = devices.last_offset[pinned], devices.last_stream_ms[pinned]
            points.append(oldest(*history.from_pins(pinned, *last)))
        return min((point for point in points if point), default=None)

    def newest(self, slots: NDArray[np.intp]) -> Newest:
        """The last reading of each device."""
        devices = self._devices
        last_us = devices.last_us[slots]
        return Newest(
            np.where(last_us == NO_TIME, NO_PLACE, last_us // self._grid.period_us),
            devices.first_sample[slots],
            devices.last_offset[slots],
            devices.last_stream_ms[slots],
            devices.last_span_ms[slots],
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
        """Evaluate the rules for readings, sorted by slot; remember the last one of each device."""
        heads = first_rows(readings.slot)
        opens, bridged, accepted = self._admission.evaluate(readings, heads)
        if accepted is not None:
            self._counters.late_readings += len(accepted) - int(np.count_nonzero(accepted))
            readings = readings.take(accepted)
            opens, bridged = opens[accepted], bridged[accepted]
            heads = first_rows(readings.slot)
        return self._remember(readings, opens, bridged, heads)

    def _remember(
        self, readings: R, opens: Flags, bridged: Flags, heads: NDArray[np.intp]
    ) -> Admitted[R]:
        """Link each reading with the one before it, and keep the last one of each device."""
        devices, grid, time_us = self._devices, self._grid, readings.time_us
        slots = readings.slot[heads]
        first = np.flatnonzero(opens)
        gaps = np.flatnonzero(bridged)
        self._count(len(first), slots)
        self._counters.bridged_gaps += len(gaps)
        tails = np.append(heads, len(readings))[1:] - 1

        def link(values: NDArray[Any], last: NDArray[Any]) -> NDArray[Any]:
            previous = shift(values, heads, last[slots])
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
            grid.sample_from(time_us[begin]),
            devices.first_sample[readings.slot[begin]],
        )
        devices.first_sample[readings.slot[begin]] = first_sample

        first_hop, last_hop = previous_us // grid.hop_us + 1, time_us // grid.hop_us
        opening_hop = grid.sample_from(time_us[first]) // grid.hop_samples
        first_hop[first] = last_hop[first] = opening_hop
        breaks = np.flatnonzero(opens | bridged) if len(gaps) else first
        devices.whole_after_us[readings.slot[breaks]] = time_us[breaks]
        bases = (previous_offset, previous_ms)
        if len(gaps):
            # The hops from what is repeated on rest on the base of its first hop.
            hop = grid.first_repeated_hop(previous_us[gaps])
            of_hop = self._history.find_bases(
                hop, gaps, begin[window[gaps]], readings.slot, (first_hop, last_hop), bases
            )
            first_hop[gaps] = hop
            for values, base in zip(bases, of_hop, strict=True):
                values[gaps] = base
        self._history.note(readings.slot, first_hop, last_hop, bases)
        return Admitted(
            readings, window, first_sample[window], previous_us, previous_axes, opens, gaps
        )

    def _count(self, opened: int, slots: NDArray[np.intp]) -> None:
        """Count windows that these devices open; for one without a window it is no gap."""
        if opened:
            added = int(np.count_nonzero(self._devices.last_us[slots] == NO_TIME))
            self._counters.windows_opened += opened
            self._counters.gaps += opened - added

    def needed_hop(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """The oldest hop that the next steps of each device can depend on."""
        return self._admission.needed_hop(slots)
