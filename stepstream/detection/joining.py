"""Split devices, whose two sensors send apart: their samples joined on the grid."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import ACCELEROMETER, GYROSCOPE, first_rows, shift
from stepstream.detection.history import History, HopBases, oldest
from stepstream.detection.resampling import Completed, Parts, Samples, expand_spans
from stepstream.detection.sensors import SENSOR_AXES, Messages, Sensor
from stepstream.detection.slots import grow
from stepstream.detection.windows import NO_PLACE, Newest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.columns import SplitReadings
    from stepstream.detection.counters import Counters
    from stepstream.detection.rules import Rules
    from stepstream.detection.sensors import Heard

    Rows = NDArray[np.intp]
    Numbers = NDArray[np.int64]
    Flags = NDArray[np.bool_]

__all__ = ["Joiner"]

NO_ROW = -1
MOST = np.iinfo(np.int64).max
BATCH_US = 2_000_000
"""Length of a message of one sensor for which the other one can still wait."""
PLACE_BITS = 41
"""Bits for a sample's index beside a window's number in one whole number.

They suffice for times until 2255 at 200 Hz, and leave room for 4 million windows in a call.
"""
PLACES = (1 << PLACE_BITS) - 1
ACCEL_AXES, GYRO_AXES = slice(0, SENSOR_AXES), slice(SENSOR_AXES, 2 * SENSOR_AXES)


class Joiner:
    """Joins the samples of accelerometer and gyroscope of split devices.

    Each sensor has windows of its own, under the same rules, and is resampled by its own times.
    The window of the accelerometer is that of the device. Its samples wait until the gyroscope has
    come up to them::

        accelerometer   ───────────────────────────o  newest
        gyroscope       ─────────────────o  newest
        joined          ─────────────────|╌╌╌╌╌╌╌╌╌|
                                           waiting

    They don't wait for a gyroscope that is missing, and are joined with zeros then. It is missing
    if a message of the accelerometer begins more than ``sensor_wait_us`` after the newest reading
    of the gyroscope, or after the opening of the window if there was none since. The beginning
    counts, so that a batch of one sensor waits for that of the other. All of this is judged after
    whole messages, in the order of offsets.

    What waits is bounded: a sample waits until the accelerometer is `BATCH_US` and
    ``sensor_wait_us`` ahead of it, and only so much of the gyroscope is kept, if that is ahead. A
    message may be longer: all of its samples are there while it is processed. When the
    accelerometer opens a new window, what still waits from earlier messages is dropped.

    Parameters
    ----------
    rules
        When readings belong together, and how long they wait.
    counters
        Where windows, gaps and late readings are counted; windows and gaps are those of the
        accelerometer.
    period_us
        Time between two samples.
    hop_samples
        Samples of a hop.
    history_hops
        How many hops before the next one the steps of that one can depend on.
    """

    def __init__(
        self, rules: Rules, counters: Counters, period_us: int, hop_samples: int, history_hops: int
    ) -> None:
        self._rules = rules
        self._counters = counters
        self._period_us = period_us
        self._hop_samples = hop_samples
        self._wait = -(-rules.sensor_wait_us // period_us)
        self._kept = self._wait + -(-BATCH_US // period_us)
        # The next hop may be as far behind the accelerometer as is kept. A replay that begins with
        # the first readings of the accelerometer's window, and not with its opening, judges after
        # this time and the waiting time whether the gyroscope is missing.
        hops = history_hops + (2 * self._kept + self._wait) // hop_samples + 2
        self._accel = Sensor(rules, period_us, hop_samples, hops, self._kept)
        # Two spans of the length that is kept: there is always a whole one.
        self._gyro = Sensor(rules, period_us, self._kept, 1, self._kept)
        self._needs = History(rules, hops)
        self._next = np.empty(0, np.int64)
        """Index of the next sample to be joined, of each row."""
        self._is_late = np.empty(0, np.bool_)
        """Whether the newest gyroscope sample of each row came too late."""
        self._row = np.empty(0, np.intp)
        """Row of each slot."""
        self._slot = np.empty(0, np.intp)
        """Slot of each row."""
        self._free: list[int] = []

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        added = np.full(capacity - len(self._row), NO_ROW, np.intp)
        self._row = np.concatenate([self._row, added])

    def clear(self, slots: Rows) -> None:
        """Drop what is known of the devices in ``slots``."""
        rows = self._rows(slots)
        self._row[slots] = NO_ROW
        self._clear(rows)
        self._free.extend(rows.tolist())

    def _clear(self, rows: Rows) -> None:
        self._accel.windows.clear(rows)
        self._gyro.windows.clear(rows)
        self._next[rows] = 0
        self._is_late[rows] = False

    def _rows(self, slots: Rows) -> Rows:
        """Rows of those devices that are split."""
        rows = self._row[slots]
        split: Rows = rows[rows != NO_ROW]
        return split

    def _add(self, slots: Rows) -> None:
        """Give devices a row."""
        capacity = len(self._slot)
        if len(slots) > len(self._free):
            grown = max(256, capacity * 2, capacity + len(slots))
            self._accel.resize(grown)
            self._gyro.resize(grown)
            self._needs.resize(grown)
            self._next = grow(self._next, grown)
            self._is_late = grow(self._is_late, grown)
            self._slot = grow(self._slot, grown)
            added = np.arange(capacity, grown)
            self._clear(added)
            self._free.extend(added[::-1].tolist())
        rows = [self._free.pop() for _ in slots]
        self._row[slots], self._slot[rows] = rows, slots

    def is_live(self, slots: Rows, stream_ms: int) -> Flags:
        """Whether each device is split and one of its sensors is not done."""
        rows = self._row[slots]
        accel, gyro = self._accel.windows, self._gyro.windows
        done = accel.is_done(rows, stream_ms) & gyro.is_done(rows, stream_ms)
        live: Flags = (rows != NO_ROW) & ~done
        return live

    def newest(self, slots: Rows) -> tuple[Flags, Newest]:
        """Which devices are split, and the last accelerometer reading of each of these."""
        return self._row[slots] != NO_ROW, self._accel.windows.newest(self._rows(slots))

    def has_late_gyroscope(self, slot: int) -> bool:
        """Whether a device is split, and its newest gyroscope sample came too late to be joined."""
        return bool(self._is_late[self._rows(np.array([slot]))].any())

    def bounds(self, slot: int) -> tuple[int, int] | None:
        """Index of the first sample of a device's window, and time of the newest joined one."""
        rows = self._rows(np.array([slot]))
        if not len(rows):
            return None
        newest = self._accel.windows.newest(rows)
        if newest.place[0] == NO_PLACE:
            return None
        last = int(self._next[rows[0]]) - 1
        return int(newest.first_sample[0]), last * self._period_us

    def replay_point(self, slots: Rows, stream_ms: int) -> tuple[int, int] | None:
        """See `Detector.replay_point`."""
        rows = self._rows(slots)
        accel, gyro = self._accel.windows, self._gyro.windows
        rows = rows[~accel.is_done(rows, stream_ms) | ~gyro.is_done(rows, stream_ms)]
        if not len(rows):
            return None
        has_accel, has_gyro = ~accel.is_idle(rows, stream_ms), ~gyro.is_idle(rows, stream_ms)
        # Only what has a window has a base; the greatest offset stands for none.
        none = np.full(len(rows), MOST), np.full(len(rows), stream_ms)
        joined = self._needs.base(rows, accel.needed_hop(rows))
        offset, needed_ms = _lower(none, joined, has_accel)
        offset, needed_ms = _lower((offset, needed_ms), gyro.base(rows), has_gyro)
        for windows in (accel, gyro):
            newest = windows.newest(rows)
            last = newest.offset, newest.stream_ms
            offset, needed_ms = _lower(
                (offset, needed_ms), last, windows.needs_last(rows, stream_ms)
            )
            offset, needed_ms = windows.from_pins(rows, offset, needed_ms)
        return oldest(offset, needed_ms)

    def join(self, readings: SplitReadings) -> Completed:
        """Add readings, sorted by slot; returns the samples that are joined now."""
        slots = readings.slot[first_rows(readings.slot)]
        new = slots[self._row[slots] == NO_ROW]
        if len(new):
            self._add(new)
        readings = replace(readings, slot=self._row[readings.slot])
        messages = Messages.of(readings)
        needed = self._needed(messages)
        accel = self._accel.hear(readings, ACCELEROMETER, ACCEL_AXES, messages)
        gyro = self._gyro.hear(readings, GYROSCOPE, GYRO_AXES, messages)
        self._count()
        self._note_needs(accel, messages, needed)
        is_heard = ~self._is_idle(gyro, messages)
        entry, place, axes, at = self._release(accel, gyro, is_heard, messages)
        joined = np.empty((len(place), 2 * SENSOR_AXES), np.float32)
        joined[:, ACCEL_AXES] = axes
        run = _runs(gyro)
        joined[:, GYRO_AXES] = self._find_gyro(gyro, run, place, at, messages)
        joined[~is_heard[at], GYRO_AXES] = 0
        self._keep_gyro(gyro, run, messages)
        return Completed(
            Samples(np.arange(len(place)), place, joined),
            Parts.of(
                self._slot[messages.rows[messages.device[at]]],
                accel.window[entry],
                accel.first_sample[entry],
                place,
            ),
            messages.offset[at],
        )

    def _count(self) -> None:
        """Count late readings of both sensors, and windows of the accelerometer."""
        total, accel, gyro = self._counters, self._accel.counters, self._gyro.counters
        total.late_readings += accel.late_readings + gyro.late_readings
        total.windows_opened += accel.windows_opened
        total.gaps += accel.gaps
        for counters in (accel, gyro):
            counters.late_readings = counters.windows_opened = counters.gaps = 0

    def _is_idle(self, heard: Heard, messages: Messages) -> Flags:
        """Whether a sensor is idle or has no window, after each message."""
        has_none: Flags = heard.place[heard.after] == NO_PLACE
        return has_none | self._rules.is_idle(heard.last_ms[heard.after], messages.stream_ms)

    def _needed(self, messages: Messages) -> tuple[Numbers, Numbers]:
        """Offset and stream time of the oldest reading that is needed from this call on.

        It is needed for samples of each device that the accelerometer comes to in this call or
        later. The first message of the device is never too early.
        """
        rows, accel, gyro = messages.rows, self._accel.windows, self._gyro.windows
        offset, stream_ms = messages.offset[messages.heads], messages.stream_ms[messages.heads]
        newest = accel.newest(rows)
        has_accel, has_gyro = ~accel.is_idle(rows, stream_ms), ~gyro.is_idle(rows, stream_ms)
        needed = _lower((offset, stream_ms), (newest.offset, newest.stream_ms), has_accel)
        return _lower(needed, gyro.base(rows), has_gyro)

    def _note_needs(
        self, accel: Heard, messages: Messages, needed: tuple[Numbers, Numbers]
    ) -> None:
        """Note what the hops rest on to which the accelerometer came."""
        initial, final, hop_samples = accel.initial, accel.final, self._hop_samples
        is_new = accel.window[final] != accel.window[initial]
        opening = accel.first_sample[final] // hop_samples
        first = np.where(is_new, opening, accel.place[initial] // hop_samples + 1)
        last = accel.place[final] // hop_samples
        last = np.where(is_new, np.maximum(last, opening), last)
        first = np.maximum(first, last - self._needs.hops)
        row, hop = expand_spans(first, last)
        offset, stream_ms = needed
        self._needs.note(messages.rows, HopBases(row, hop, offset[row], stream_ms[row]))

    def _reached(self, accel: Heard, gyro: Heard, is_heard: Flags, messages: Messages) -> Numbers:
        """The next sample to be joined, after each message; never decreases for a window."""
        newest, first_sample = accel.place[accel.after], accel.first_sample[accel.after]
        heard = np.where(is_heard, gyro.place[gyro.after], NO_PLACE)
        # The message's first reading in the current window.
        begin = np.maximum(
            accel.before + 1, np.searchsorted(accel.window, accel.window[accel.after])
        )
        begin = np.maximum(accel.place[np.minimum(begin, accel.after)], newest - self._kept)
        is_missing = begin - np.maximum(heard, first_sample) > self._wait
        is_missing &= accel.after > accel.before
        joined = np.minimum(newest, np.maximum(heard, newest - self._kept))
        joined = np.maximum(np.where(is_missing, newest, joined), NO_PLACE)
        joined[self._is_idle(accel, messages)] = NO_PLACE
        following: Numbers = joined + 1
        return following

    def _release(
        self, accel: Heard, gyro: Heard, is_heard: Flags, messages: Messages
    ) -> tuple[Rows, Numbers, NDArray[np.float32], Rows]:
        """Samples of the accelerometer that wait no longer; keeps those that still do.

        Returns
        -------
        entry, place, axes, at
            Of each sample: its entry in ``accel``, its index, its values, and the message after
            which it waits no longer.
        """
        rows, initial, window = messages.rows, accel.initial, accel.window
        waiting, place = expand_spans(
            np.maximum(self._next[rows], accel.first_sample[initial]), accel.place[initial]
        )
        entry = np.concatenate([initial[waiting], accel.samples.row])
        axes = np.concatenate([self._accel.kept(rows[waiting], place), accel.samples.axes])
        place = np.concatenate([place, accel.samples.place])
        # A sample's window and index as one whole number; so is what each message reached.
        key = window[entry] << PLACE_BITS | place
        order = np.argsort(key, kind="stable")
        entry, place, axes, key = entry[order], place[order], axes[order], key[order]
        window_at = window[accel.after]
        reached = window_at << PLACE_BITS | self._reached(accel, gyro, is_heard, messages)
        known = window[initial] << PLACE_BITS | self._next[rows]
        reached[messages.heads] = np.maximum(reached[messages.heads], known)
        np.maximum.accumulate(reached, out=reached)
        self._next[rows] = reached[messages.ends - 1] & PLACES
        self._note_late(gyro, shift(reached, messages.heads, known) & PLACES, rows)

        at = np.searchsorted(reached, key, side="right")
        device = accel.device[entry]
        waits = at >= messages.ends[device]
        self._accel.keep(rows[device[waits]], place[waits], axes[waits])
        at[waits] = 0
        # A message that opened a window in the meantime: earlier ones' samples are dropped.
        is_kept = (window_at[at] == window[entry]) | (accel.message[entry] == at)
        done = np.flatnonzero(is_kept & ~waits)
        return entry[done], place[done], axes[done], at[done]

    def _note_late(self, gyro: Heard, following: Numbers, rows: Rows) -> None:
        """Note which gyroscope samples come after acceleration was joined without them.

        ``following`` is the next sample to be joined, before each message.
        """
        entry = gyro.samples.row
        is_late = gyro.samples.place < following[gyro.message[entry]]
        self._counters.late_gyro_samples += int(np.count_nonzero(is_late))
        self._is_late[rows[gyro.device[entry]]] = is_late

    def _find_gyro(
        self, gyro: Heard, run: Rows, place: Numbers, at: Rows, messages: Messages
    ) -> NDArray[np.float32]:
        """The gyroscope's samples for those of the accelerometer.

        Parameters
        ----------
        gyro, run
            What is known of the gyroscope, see `_runs`.
        place, at : (n,)
            Indices of the samples, and the messages after which they are joined.

        Returns
        -------
        (n, 3) float32
            0 where there is none.
        """
        samples, device = gyro.samples, messages.device[at]
        entry, initial = gyro.after[at], gyro.initial[device]
        oldest_kept = np.maximum(
            gyro.first_sample[entry], gyro.place[gyro.before[at]] - self._kept + 1
        )
        axes = np.zeros((len(place), SENSOR_AXES), np.float32)
        known = (place >= oldest_kept) & (place <= gyro.place[initial])
        known &= run[entry] == run[initial]
        axes[known] = self._gyro.kept(messages.rows[device[known]], place[known])
        key = run[samples.row] << PLACE_BITS | samples.place
        if len(key):
            wanted = run[entry] << PLACE_BITS | place
            found = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
            message = gyro.message[samples.row[found]]
            fits = (message == at) | ((message < at) & (place >= oldest_kept))
            fits &= key[found] == wanted
            axes[fits] = samples.axes[found[fits]]
        return axes

    def _keep_gyro(self, gyro: Heard, run: Rows, messages: Messages) -> None:
        """Keep the gyroscope's newest samples of its current windows."""
        samples, device = gyro.samples, gyro.device[gyro.samples.row]
        final = gyro.final[device]
        newest = run[samples.row] == run[final]
        newest &= samples.place >= gyro.first_sample[final]
        newest &= samples.place > gyro.place[final] - self._kept
        self._gyro.keep(messages.rows[device[newest]], samples.place[newest], samples.axes[newest])


def _runs(heard: Heard) -> Rows:
    """Number of the run of each entry, ascending; the samples of a run ascend, too.

    A run are the windows that one message opened, if they follow one another in time, and what
    continues the last of them.
    """
    begins = heard.opens.copy()
    begins[1:] &= (heard.first_sample[1:] <= heard.place[:-1]) | (np.diff(heard.message) != 0)
    begins[heard.initial] = True
    run: Rows = np.cumsum(begins)
    return run


def _lower(
    one: tuple[Numbers, Numbers], other: tuple[Numbers, Numbers], has_other: Flags
) -> tuple[Numbers, Numbers]:
    """The lower of two offsets, or the one if there is no other, and the stream time there."""
    takes_other = has_other & (other[0] < one[0])
    return np.where(takes_other, other[0], one[0]), np.where(takes_other, other[1], one[1])
