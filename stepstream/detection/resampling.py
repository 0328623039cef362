"""Linear interpolation of readings to the model's absolute time grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.detection.bridging import Gap

__all__ = ["Completed", "Samples", "expand_spans", "resample", "scale_channels"]


class Samples(NamedTuple):
    """Samples on the grid, in the order of the readings that completed them.

    ``row`` (m,) intp is the completing reading's row, ``place`` (m,) int64 the sample's index on
    the grid (its time is ``place * period_us``), ``axes`` (m, 6) float32 the values there.
    """

    row: NDArray[np.intp]
    place: NDArray[np.int64]
    axes: NDArray[np.float32]


class Completed(NamedTuple):
    """Samples of many devices, and the readings or messages that completed them.

    Those of one device stand together, in the order in which they were completed.

    Attributes
    ----------
    samples
        Their ``row`` is a row of the columns below.
    slot : (n,) intp
        The device.
    window : (n,) intp
        Number of the window, ascending.
    first_sample : (n,) int64
        Index of the first sample of that window.
    offset : (n,) int64
        Input offset of the message that completed the samples.
    gaps
        Gaps to be bridged.
    """

    samples: Samples
    slot: NDArray[np.intp]
    window: NDArray[np.intp]
    first_sample: NDArray[np.int64]
    offset: NDArray[np.int64]
    gaps: Sequence[Gap] = ()

    def with_others(self, others: Completed) -> Completed:
        """These and those of other devices, which have no gaps to be bridged."""
        more = others.samples
        return Completed(
            Samples(
                np.concatenate([self.samples.row, more.row + len(self.slot)]),
                np.concatenate([self.samples.place, more.place]),
                np.concatenate([self.samples.axes, more.axes]),
            ),
            np.concatenate([self.slot, others.slot]),
            np.concatenate([self.window, others.window + self.window.max(initial=-1) + 1]),
            np.concatenate([self.first_sample, others.first_sample]),
            np.concatenate([self.offset, others.offset]),
            self.gaps,
        )


def resample(
    time_us: NDArray[np.int64],
    axes: NDArray[np.float32],
    previous_us: NDArray[np.int64],
    previous_axes: NDArray[np.float32],
    period_us: int,
) -> Samples:
    """Values at the grid points after each previous reading, up to and including the reading.

    Each sample depends on two readings only, and on nothing else in the call. For a reading that
    opens a window, the previous one is the reading itself, one microsecond earlier: it gives a
    sample only if it stands on the grid.

    Parameters
    ----------
    time_us, previous_us : (n,) int64
        Times of the readings and of the ones before them, ``previous_us < time_us``.
    axes, previous_axes : (n, 6) float32
        Their values.
    period_us
        Distance of the grid's points.
    """
    row, place = expand_spans(previous_us // period_us + 1, time_us // period_us)
    since = (place * period_us - previous_us.take(row)).astype(np.float32)
    span = (time_us - previous_us).astype(np.float32)
    before = previous_axes.take(row, axis=0)
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
