"""Many simulated devices at once: their messages in the order of time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from stepstream.inputs import MessageWriter
    from stepstream.recordings import Recording

__all__ = ["Device", "Message", "Player", "Sensor", "messages"]

SLICE_S = 0.25


class Sensor(Protocol):
    """Something that gives readings in the order of time."""

    def read(self, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Readings from the end of the last call up to a time: times (n,), axes (n, 6)."""


class Player:
    """Plays a recording, from second ``delay_s`` on.

    Parameters
    ----------
    recording
        Its first reading is in the first second of the simulation.
    delay_s
        Whole seconds, so that the recording keeps its place on the model's time grid.
    """

    def __init__(self, recording: Recording, delay_s: int = 0) -> None:
        self.first_s = int(recording.time_s.min() // 1)
        self._time_s = recording.time_s - self.first_s + delay_s
        self._axes = recording.axes
        self._row = 0
        # A clock that was set back doesn't delay later readings.
        self._due_s = np.maximum.accumulate(self._time_s)
        self.end_s = float(self._due_s[-1])

    def read(self, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Sensor.read`."""
        begin = self._row
        self._row = int(np.searchsorted(self._due_s, until_s, "left"))
        return self._time_s[begin : self._row], self._axes[begin : self._row]


@dataclass(frozen=True)
class Device:
    """A sensor with a name, whose clock may be ahead of the simulation's."""

    device_id: str
    sensor: Sensor
    ahead_s: float = 0.0


class Message(NamedTuple):
    """A message of readings, due at the time of its last reading: seconds from the beginning."""

    due_s: float
    key: bytes
    value: bytes
    readings: int
    headers: tuple[tuple[str, bytes], ...] = ()


class _Reading(msgspec.Struct, gc=False):
    device_id: str
    timestamp: float | list[float]
    accel_x: float | list[float]
    accel_y: float | list[float]
    accel_z: float | list[float]
    gyro_x: float | list[float] | msgspec.UnsetType = msgspec.UNSET
    gyro_y: float | list[float] | msgspec.UnsetType = msgspec.UNSET
    gyro_z: float | list[float] | msgspec.UnsetType = msgspec.UNSET


def messages(
    devices: Sequence[Device],
    epoch_s: float,
    seconds: float,
    *,
    batch: int = 1,
    decimals: int | None = 5,
    writer: MessageWriter | None = None,
) -> Iterator[Message]:
    """All messages of some devices, in the order in which they are due.

    Parameters
    ----------
    devices
        The devices; each one's messages keep their order.
    epoch_s
        Seconds since the epoch at the simulation's beginning.
    seconds
        Its length.
    batch
        Readings a message; single readings are written as numbers, more as arrays. What is left
        at the end comes in a smaller batch.
    decimals
        Values are rounded to these; None leaves them as they are.
    writer
        Writes the messages; without one they are in the plain JSON form.
    """
    encode = msgspec.json.Encoder().encode
    waiting = {device.device_id: (np.empty(0), np.empty((0, 6))) for device in devices}
    slices = int(np.ceil(seconds / SLICE_S))
    for number in range(1, slices + 1):
        until_s = min(seconds, number * SLICE_S)
        due: list[Message] = []
        for device in devices:
            time_s, axes = device.sensor.read(until_s)
            if decimals is not None:
                axes = axes.round(decimals)
            if batch > 1:
                old_time_s, old_axes = waiting[device.device_id]
                time_s = np.concatenate([old_time_s, time_s])
                axes = np.concatenate([old_axes, axes])
                whole = len(time_s) if number == slices else len(time_s) // batch * batch
                waiting[device.device_id] = time_s[whole:], axes[whole:]
                time_s, axes = time_s[:whole], axes[:whole]
            clock_s = epoch_s + device.ahead_s
            if writer is None:
                due += _encode(device.device_id, time_s, axes, clock_s, batch, encode)
            else:
                due += _write(device.device_id, time_s, axes, clock_s, batch, writer)
        due.sort(key=lambda message: message.due_s)
        yield from due


def _write(
    device_id: str,
    time_s: NDArray[np.float64],
    axes: NDArray[np.float64],
    epoch_s: float,
    batch: int,
    writer: MessageWriter,
) -> Iterator[Message]:
    time_us = np.rint((epoch_s + time_s) * 1e6).astype(np.int64)
    due_s = np.maximum.accumulate(time_s).tolist()
    for begin in range(0, len(time_s), batch):
        rows = slice(begin, begin + batch)
        written = writer.write(device_id, time_us[rows], axes[rows])
        due = due_s[min(begin + batch, len(time_s)) - 1]
        for number, (key, value, headers) in enumerate(written):
            # Messages of two sensors carry the same readings.
            yield Message(due, key, value, 0 if number else len(time_us[rows]), headers)


def _encode(
    device_id: str,
    time_s: NDArray[np.float64],
    axes: NDArray[np.float64],
    epoch_s: float,
    batch: int,
    encode: object,
) -> list[Message]:
    if not len(time_s):
        return []
    key = device_id.encode()
    stamps = (epoch_s + time_s).round(6)
    columns = axes.T if axes[:, 3:].any() else axes[:, :3].T
    # Readings whose clock was set back are due when they come, not at their own time.
    due_s = np.maximum.accumulate(time_s).tolist()
    if batch == 1:
        rows = zip(repeat(device_id), stamps.tolist(), *columns.tolist(), strict=False)
        return [
            Message(due, key, encode(_Reading(*row)), 1)  # type: ignore[operator]
            for due, row in zip(due_s, rows, strict=True)
        ]
    found = []
    for begin in range(0, len(time_s), batch):
        rows_of = slice(begin, begin + batch)
        reading = _Reading(
            device_id, stamps[rows_of].tolist(), *(column[rows_of].tolist() for column in columns)
        )
        size = len(stamps[rows_of])
        found.append(Message(due_s[begin + size - 1], key, encode(reading), size))  # type: ignore[operator]
    return found
