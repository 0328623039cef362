"""One sensor of split devices: which of its readings count, and its samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from stepstream.detection.admission import Grid
from stepstream.detection.columns import Readings, SplitReadings, first_rows
from stepstream.detection.counters import Counters
from stepstream.detection.resampling import Samples, resample
from stepstream.detection.slots import grow
from stepstream.detection.windows import Windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.rules import Rules

    Rows = NDArray[np.intp]
    Numbers = NDArray[np.int64]

S = TypeVar("S", bound=np.generic)

__all__ = ["SENSOR_AXES", "Heard", "Messages", "Sensor"]

SENSOR_AXES = 3
BEFORE = -1
"""Stands for the message of a reading that came before the call."""


class Messages(NamedTuple):
    """The m messages of a call, those of one of the d devices together, in order of arrival.

    Attributes
    ----------
    of_reading : (n,) intp
        The message of each reading.
    device : (m,) intp
        Number of its device in this call.
    offset, stream_ms : (m,) int64
        See `Readings`.
    rows : (d,) intp
        The device's row, in all tables of split devices.
    heads, ends : (d,) intp
        The first message of each device, and the one after its last.
    """

    of_reading: Rows
    device: Rows
    offset: Numbers
    stream_ms: Numbers
    rows: Rows
    heads: Rows
    ends: Rows

    @classmethod
    def of(cls, readings: SplitReadings) -> Messages:
        """The messages of readings, which are sorted by device; their slots are the rows."""
        # No device has two messages of one offset, so that the two numbers name a message.
        begins = np.ones(len(readings), np.bool_)
        np.not_equal(readings.offset[1:], readings.offset[:-1], out=begins[1:])
        begins[first_rows(readings.slot)] = True
        first = np.flatnonzero(begins)
        row = readings.slot[first]
        heads = first_rows(row)
        ends = np.append(heads[1:], len(row))
        return cls(
            np.cumsum(begins) - 1,
            np.repeat(np.arange(len(heads)), ends - heads),
            readings.offset[first],
            readings.stream_ms[first],
            row[heads],
            heads,
            ends,
        )


@dataclass(frozen=True, slots=True)
class _Numbered(Readings):
    """Readings with the number of their message in the call."""

    message: Rows


class Heard(NamedTuple):
    """What the messages of a call bring of one sensor.

    It has an *entry* for each accepted reading, and before those of a device one for its last
    reading before the call. Each device has at least this one; its place is `NO_PLACE` if there is
    no such reading.

    Attributes
    ----------
    place : (e,) int64
        Index of the last sample up to the reading.
    first_sample : (e,) int64
        Index of the first sample of its window.
    last_ms : (e,) int64
        Stream time at the reading, and the span of its message added, see `Rules.is_idle`.
    message : (e,) intp
        Its message, or `BEFORE`.
    opens : (e,) bool
        Whether it opens its window.
    window : (e,) intp
        Number of its window, ascending.
    device : (e,) intp
        Number of its device.
    initial : (d,) intp
        The first entry of each device: what was known before the call.
    final : (d,) intp
        Its last entry.
    before, after : (m,) intp
        The last entries before and after each message.
    samples
        What the accepted readings complete; ``row`` is the entry.
    """

    place: Numbers
    first_sample: Numbers
    last_ms: Numbers
    message: Rows
    opens: NDArray[np.bool_]
    window: Rows
    device: Rows
    initial: Rows
    final: Rows
    before: Rows
    after: Rows
    samples: Samples


class Sensor:
    """One sensor of many split devices.

    Its readings are admitted and resampled as those of a device with joined sensors are, each
    sensor for itself.

    Parameters
    ----------
    rules
        When readings belong together.
    period_us
        Time between two samples.
    hop_samples, history_hops
        How far back the sensor's own readings are needed, see `Windows`.
    kept
        Samples that are kept of each device.
    """

    def __init__(
        self, rules: Rules, period_us: int, hop_samples: int, history_hops: int, kept: int
    ) -> None:
        self.counters = Counters()
        grid = Grid(period_us, hop_samples)
        self.windows = Windows(rules, self.counters, grid, history_hops, SENSOR_AXES)
        self._period_us = period_us
        self._samples = np.empty((0, kept, SENSOR_AXES), np.float32)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` rows."""
        self.windows.resize(capacity)
        self._samples = grow(self._samples, capacity)

    def keep(self, row: Rows, place: Numbers, axes: NDArray[np.float32]) -> None:
        """Keep samples; each replaces the one that is older by the number that is kept."""
        self._samples[row, place % self._samples.shape[1]] = axes

    def kept(self, row: Rows, place: Numbers) -> NDArray[np.float32]:
        """Samples that are kept, (n, 3)."""
        samples: NDArray[np.float32] = self._samples[row, place % self._samples.shape[1]]
        return samples

    def hear(self, readings: SplitReadings, sensor: int, axes: slice, messages: Messages) -> Heard:
        """Admit the readings of this sensor, and resample them.

        Parameters
        ----------
        readings
            Of all split devices in this call, sorted by row.
        sensor, axes
            Bit of this sensor in ``readings.sensors``, and where its axes are.
        messages
            The messages of the readings.
        """
        known = self.windows.newest(messages.rows)
        rows = np.flatnonzero(readings.sensors & sensor)
        admitted = self.windows.admit(
            _Numbered(
                readings.slot[rows],
                readings.time_us[rows],
                readings.axes[rows, axes],
                readings.offset[rows],
                readings.stream_ms[rows],
                readings.span_ms[rows],
                messages.of_reading[rows],
            )
        )
        accepted, stretches = admitted.readings, admitted.stretches
        message = accepted.message
        samples = resample(
            accepted.time_us,
            accepted.axes,
            stretches.begin,
            admitted.previous_us,
            admitted.previous_axes,
            period_us=self._period_us,
        )
        opened = np.zeros(len(message), np.bool_)
        opened[stretches.begin] = admitted.opens
        first_sample = np.repeat(admitted.first_sample, stretches.end - stretches.begin)
        count = np.bincount(message, minlength=len(messages.device))
        until = np.cumsum(count)
        devices = np.arange(len(messages.rows))
        initial = (until - count)[messages.heads] + devices
        of_reading = np.arange(len(message)) + messages.device[message] + 1
        size = len(message) + len(devices)

        def entries(before: NDArray[S], values: NDArray[S]) -> NDArray[S]:
            every = np.empty(size, values.dtype)
            every[initial], every[of_reading] = before, values
            return every

        opens = entries(np.zeros(len(devices), np.bool_), opened)
        begins = opens.copy()
        begins[initial] = True
        return Heard(
            entries(known.place, accepted.time_us // self._period_us),
            entries(known.first_sample, first_sample),
            entries(known.stream_ms + known.span_ms, accepted.stream_ms + accepted.span_ms),
            entries(np.full(len(devices), BEFORE), message),
            opens,
            np.cumsum(begins),
            entries(devices, messages.device[message]),
            initial,
            np.append(initial[1:], size) - 1,
            until - count + messages.device,
            until + messages.device,
            samples._replace(row=of_reading[samples.row]),
        )
