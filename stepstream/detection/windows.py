"""Windows of devices: which readings are accepted, and which open a new window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import numpy as np

from stepstream.detection.admission import Admission, LastReadings
from stepstream.detection.columns import select, shift
from stepstream.detection.history import NO_TIME, History, HopBases, oldest
from stepstream.detection.model import AXES
from stepstream.detection.resampling import expand_spans

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.admission import Evaluated, Grid
    from stepstream.detection.columns import Readings
    from stepstream.detection.counters import Counters
    from stepstream.detection.rules import Rules
    from stepstream.detection.stretches import Stretches

    Flags = NDArray[np.bool_]

__all__ = ["Admitted", "Newest", "Windows"]

NO_PLACE = -1
"""Stands for the index of a sample that there is not."""

R = TypeVar("R", bound="Readings")


class Admitted(NamedTuple, Generic[R]):
    """Accepted readings, those of a device together, and what comes before their stretches.

    A reading that opens a window has none before it: the reading itself is used in its place, one
    microsecond earlier.

    Attributes
    ----------
    readings
        The readings.
    stretches
        Their k stretches.
    window : (k,) intp
        Numbers of the windows that they belong to, ascending.
    first_sample : (k,) int64
        Index of the first sample of that window.
    previous_us : (k,) int64
        Time of the reading before.
    previous_axes : (k, axes) float32
        Its values.
    opens : (k,) bool
        Whether the stretch opens its window.
    bridged : (g,) intp
        The stretches that follow a gap which is bridged.
    """

    readings: R
    stretches: Stretches
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
        """Evaluate the rules for readings; remember the last one of each device.

        The readings of a device stand together, in the order of arrival.
        """
        evaluated = self._admission.evaluate(readings)
        self._counters.late_readings += len(readings) - len(evaluated.readings)
        return self._remember(evaluated)

    def _remember(self, evaluated: Evaluated[R]) -> Admitted[R]:
        """Link each stretch with the reading before it, and keep the last one of each device."""
        devices, grid = self._devices, self._grid
        readings, stretches, opens, bridged = evaluated
        heads, tails = stretches.heads, stretches.tails
        slots, first_us = stretches.slot[heads], stretches.first_us
        first = np.flatnonzero(opens)
        gaps = np.flatnonzero(bridged)
        self._count(len(first), slots)
        self._counters.bridged_gaps += len(gaps)

        def link(begin: NDArray[Any], end: NDArray[Any], last: NDArray[Any]) -> NDArray[Any]:
            previous = shift(end, heads, last[slots])
            previous[first] = begin[first]
            last[slots] = end[tails]
            return previous

        axes = select(readings.axes, stretches.begin)
        last_axes = select(readings.axes, stretches.end - 1)
        previous_axes = link(axes, last_axes, devices.last_axes)
        bases = (
            link(stretches.offset, stretches.offset, devices.last_offset),
            link(stretches.stream_ms, stretches.stream_ms, devices.last_stream_ms),
        )
        previous_us = link(first_us, stretches.last_us, devices.last_us)
        previous_us[first] -= 1
        devices.last_span_ms[slots] = stretches.span_ms[tails]

        begins = opens.copy()
        begins[heads] = True
        window = np.cumsum(begins) - 1
        begin = np.flatnonzero(begins)
        slot_of_window = stretches.slot[begin]
        first_sample = np.where(
            opens[begin], grid.sample_from(first_us[begin]), devices.first_sample[slot_of_window]
        )
        devices.first_sample[slot_of_window] = first_sample
        breaks = np.flatnonzero(opens | bridged)
        devices.whole_after_us[stretches.slot[breaks]] = first_us[breaks]

        first_hop = previous_us // grid.hop_us + 1
        first_hop[first] = grid.sample_from(first_us[first]) // grid.hop_samples
        last_hop = stretches.last_us // grid.hop_us
        last_hop[first] = np.maximum(first_hop[first], last_hop[first])
        hops = self._rest(stretches, first_hop, last_hop, bases)
        if len(gaps):
            # The hops from what is repeated on rest on the base of its first hop.
            first_hop[gaps] = hop = grid.first_repeated_hop(previous_us[gaps])
            found = self._history.find_bases(
                stretches.slot[gaps], hop, begin[window[gaps]], gaps, hops
            )
            for values, base in zip(bases, found, strict=True):
                values[gaps] = base
            hops = self._rest(stretches, first_hop, last_hop, bases)
        self._history.note(stretches.slot, hops)
        return Admitted(
            readings,
            stretches,
            window,
            first_sample[window],
            previous_us,
            previous_axes,
            opens,
            gaps,
        )

    def _rest(
        self,
        stretches: Stretches,
        first_hop: NDArray[np.int64],
        last_hop: NDArray[np.int64],
        previous: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> HopBases:
        """What the hops of each stretch rest on.

        Those up to the first reading rest on the base before the stretch, of which ``previous`` has
        offset and stream time; the others on a reading of the stretch itself.
        """
        row, hop = expand_spans(first_hop, last_hop)
        is_later = hop > stretches.first_us[row] // self._grid.hop_us
        offset, stream_ms = (
            np.where(is_later, own[row], before[row])
            for own, before in zip((stretches.offset, stretches.stream_ms), previous, strict=True)
        )
        return HopBases(row, hop, offset, stream_ms)

    def _count(self, opened: int, slots: NDArray[np.intp]) -> None:
        """Count windows that these devices open; for one without a window it is no gap."""
        if opened:
            added = int(np.count_nonzero(self._devices.last_us[slots] == NO_TIME))
            self._counters.windows_opened += opened
            self._counters.gaps += opened - added

    def needed_hop(self, slots: NDArray[np.intp]) -> NDArray[np.int64]:
        """The oldest hop that the next steps of each device can depend on."""
        return self._admission.needed_hop(slots)
