"""Linear interpolation of readings to the model's absolute time grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.detection.columns import shift

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection.bridging import Gap

__all__ = ["Completed", "Parts", "Samples", "expand_spans", "resample", "scale_channels"]


class Samples(NamedTuple):
    """Samples on the grid, in the order of the readings that completed them.

    ``row`` (m,) intp is the completing reading's row, ``place`` (m,) int64 the sample's index on
    the grid (its time is ``place * period_us``), ``axes`` (m, 6) float32 the values there.
    """

    row: NDArray[np.intp]
    place: NDArray[np.int64]
    axes: NDArray[np.float32]


class Parts(NamedTuple):
    """The samples of each window in a call.

    Attributes
    ----------
    slot : (p,) intp
        The device; those of a device stand together, in the order of time.
    begin : (p,) intp
        The first of its samples in the call, which are one after the other there and on the grid.
    place : (p,) int64
        The first one's index on the grid.
    length : (p,) int64
        How many there are, at least 1.
    first_sample : (p,) int64
        Index on the grid of the first sample of the window.
    """

    slot: NDArray[np.intp]
    begin: NDArray[np.intp]
    place: NDArray[np.int64]
    length: NDArray[np.int64]
    first_sample: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        slot: NDArray[np.intp],
        window: NDArray[np.intp],
        first_sample: NDArray[np.int64],
        place: NDArray[np.int64],
    ) -> Parts:
        """The windows of samples, given the columns of the m samples.

        Parameters
        ----------
        slot, window : (m,) intp
            The device of each, and the number of its window.
        first_sample, place : (m,) int64
            Index on the grid of the first sample of the window, and of the sample itself. A hole in
            them divides a window.
        """
        begins = np.ones(len(place), np.bool_)
        begins[1:] = (window[1:] != window[:-1]) | (np.diff(place) != 1)
        begin = np.flatnonzero(begins)
        length = np.diff(begin, append=len(place))
        return cls(slot[begin], begin, place[begin], length, first_sample[begin])

    def take(self, rows: NDArray[Any]) -> Parts:
        """Some of them, by index or mask."""
        return Parts(*(column[rows] for column in self))


class Completed(NamedTuple):
    """Samples of many devices, and the readings or messages that completed them.

    Those of one device stand together, in the order in which they were completed.

    Attributes
    ----------
    samples
        Their ``row`` is a row of ``offset``.
    parts
        The windows.
    offset : (n,) int64
        Input offset of the message that completed the samples.
    gaps
        Gaps to be bridged.
    """

    samples: Samples
    parts: Parts
    offset: NDArray[np.int64]
    gaps: Sequence[Gap] = ()

    def with_others(self, others: Completed) -> Completed:
        """These and those of other devices, which have no gaps to be bridged."""
        more = others.samples
        moved = others.parts._replace(begin=others.parts.begin + len(self.samples.place))
        return Completed(
            Samples(
                np.concatenate([self.samples.row, more.row + len(self.offset)]),
                np.concatenate([self.samples.place, more.place]),
                np.concatenate([self.samples.axes, more.axes]),
            ),
            Parts(*(np.concatenate(columns) for columns in zip(self.parts, moved, strict=True))),
            np.concatenate([self.offset, others.offset]),
            self.gaps,
        )


def resample(
    time_us: NDArray[np.int64],
    axes: NDArray[np.float32],
    begin: NDArray[np.intp],
    previous_us: NDArray[np.int64],
    previous_axes: NDArray[np.float32],
    *,
    period_us: int,
) -> Samples:
    """Values at the grid points after each previous reading, up to and including the reading.

    Each sample depends on two readings only, and on nothing else in the call. For a reading that
    opens a window, the previous one is the reading itself, one microsecond earlier: it gives a
    sample only if it stands on the grid.

    Parameters
    ----------
    time_us : (n,) int64
        Times of the readings.
    axes : (n, 6) float32
        Their values.
    begin : (k,) intp
        Readings that don't follow the one in the row before, the first one among them.
    previous_us : (k,) int64
        Times of the readings before these; all readings are later than their previous ones.
    previous_axes : (k, 6) float32
        Their values.
    period_us
        Distance of the grid's points.
    """
    before_us = shift(time_us, begin, previous_us)
    until, known = time_us // period_us, previous_us // period_us
    count = until - shift(until, begin, known)
    row = np.repeat(np.arange(len(count)), count)
    # The points of readings that follow one another do so, too.
    points = until[np.append(begin, len(count))[1:] - 1] - known
    place = np.repeat(known + 1 + points - np.cumsum(points), points)
    place += np.arange(len(row))
    since = (place * period_us - before_us.take(row)).astype(np.float32)
    span = (time_us - before_us).astype(np.float32)
    before = shift(axes, begin, previous_axes).take(row, axis=0)
    values = axes.take(row, axis=0)
    values -= before
    values *= (since / span.take(row))[:, np.newaxis]
    values += before
    return Samples(row, place, values)


def expand_spans(
    first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """All whole numbers from ``first`` to ``last`` of each row, empty where last < first.

    Returns
    -------
    row : (m,) intp
        The row that each number comes from, ascending.
    value : (m,) int64
        The numbers, ascending within a row.
    """
    count = np.maximum(last - first + 1, 0)
    row = np.repeat(np.arange(len(count)), count)
    return row, np.arange(len(row)) + (first + count - np.cumsum(count)).take(row)


def scale_channels(
    axes: NDArray[np.float32], accel_scale: float, gyro_scale: float
) -> NDArray[np.float32]:
    """Channels of the model: the six axes, scaled, then the magnitudes of both sensors.

    Parameters
    ----------
    axes : (n, 6) float32
        Acceleration in m/s^2, angular velocity in rad/s.
    accel_scale, gyro_scale
        What they are divided by.

    Returns
    -------
    (n, 8) float32
    """
    channels = np.empty((8, len(axes)), np.float32)
    np.divide(axes[:, :3].T, np.float32(accel_scale), out=channels[:3])
    np.divide(axes[:, 3:].T, np.float32(gyro_scale), out=channels[3:6])
    for sensor, magnitude in ((channels[:3], 6), (channels[3:6], 7)):
        x, y, z = sensor
        np.sqrt(x * x + y * y + z * z, out=channels[magnitude])
    return np.ascontiguousarray(channels.T)
