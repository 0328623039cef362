"""Whether readings look as if they had another unit than they are taken to have, or no gravity.

What moves about without going away feels gravity on average, 9.81 m/s^2: the mean length of its
acceleration is at least that, whatever its place, its direction and its motion. Nothing like this
holds for the angular velocity, but limbs don't turn at 12 rad/s for long, and do at 12 degrees/s.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["MIN_PIECES", "Doubt", "Verdict", "judge", "judge_piece", "measure", "measure_readings"]

PIECE_US = 400_000
"""Length of a piece of a device's readings, as long as the samples that a detector keeps."""
MIN_ROWS = 5
"""A piece with fewer readings says nothing."""
MIN_PIECES = 30
"""With fewer pieces there is no verdict."""
TOO_SMALL = 7.0
"""Accelerations are doubtful if this is above their median and their mean, m/s^2. Of
636 recordings of walking, the smallest median is 8.9; without gravity, the largest is 6.6."""
TOO_LARGE = 40.0
"""So are those with a median above this; the largest is 24, in exercises with the arms."""
NEAR_G = (0.5, 1.6)
"""Pieces lie here if the unit is g: of recordings of walking 99 %, of jogging 86 %."""
FEW_PIECES, FEW_SHARE = 5, 0.04
"""So many pieces below the end of `NEAR_G`, or above `FAR`, mean that some devices are wrong.
One of 2,048 recordings has two such pieces below, and one has three above."""
FAR = 60.0
"""Pieces of m/s^2 that are read as g begin at 87."""
G_SHARE = 0.56
"""So many of the pieces below `TOO_SMALL` are in `NEAR_G` if the unit is g: 0.58 or more where five
devices were drawn, 0.54 or less without gravity."""
TOO_FAST = 12.0
"""One piece in ten turns faster than this, rad/s; the fastest recording has 8."""
FAST_SHARE = 0.9


class Doubt(StrEnum):
    """What is doubtful about readings."""

    ACCEL_IN_G = "accel-in-g"
    """The acceleration is about a tenth of what it should be, as g read as m/s^2 are."""
    ACCEL_TOO_LARGE = "accel-too-large"
    """The acceleration is far more than gravity, as m/s^2 read as g are."""
    NO_GRAVITY = "no-gravity"
    """The acceleration is less than gravity alone, as it is where gravity was taken out."""
    GYRO_IN_DEGREES = "gyro-in-degrees"
    """The angular velocity is far more than people turn, as degrees read as radians are."""
    GYRO_TOO_LATE = "gyro-too-late"
    """The gyroscope sends apart, and comes too late to be joined; no readings alone show this."""


class Verdict(NamedTuple):
    """What is doubtful about readings, and the figures behind it.

    Attributes
    ----------
    doubts
        None of them if the readings look right, or if there are too few.
    pieces
        How many pieces were judged.
    accel
        Typical length of the acceleration, m/s^2: the median of the pieces, or of the doubtful
        ones if these are few.
    share
        Part of the pieces of which this is the median.
    gyro
        Angular velocity that a tenth of the pieces exceeds, rad/s.
    """

    doubts: tuple[Doubt, ...]
    pieces: int
    accel: float
    share: float
    gyro: float


def measure(magnitudes: NDArray[np.floating]) -> tuple[float, float, float]:
    """What `judge` needs of a piece of some tenths of a second of one device's readings.

    Parameters
    ----------
    magnitudes : (n, 2) floating
        Lengths of acceleration, m/s^2, and of angular velocity, rad/s.

    Returns
    -------
    tuple of float
        Median and mean of the acceleration, and root of the mean square of the angular velocity.
    """
    accel, gyro = magnitudes[:, 0], magnitudes[:, 1]
    root = float(np.sqrt(gyro @ gyro / len(gyro)))
    return float(np.median(accel)), float(accel.mean()), root


def measure_readings(time_us: NDArray[np.int64], axes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Measure all pieces of one device's readings.

    Parameters
    ----------
    time_us : (n,) int64
        Times, ascending, microseconds.
    axes : (n, 6) floating
        Acceleration as m/s^2, angular velocity as rad/s.

    Returns
    -------
    (k, 3) float64
        A row for each piece, for `judge`.
    """
    if not len(time_us):
        return np.empty((0, 3))
    squares = np.square(axes, dtype=np.float64).reshape(-1, 2, 3)
    magnitudes = np.sqrt(squares.sum(axis=2))
    cuts = np.flatnonzero(np.diff(time_us // PIECE_US)) + 1
    pieces = [measure(rows) for rows in np.split(magnitudes, cuts) if len(rows) >= MIN_ROWS]
    return np.array(pieces).reshape(-1, 3)


def judge(pieces: NDArray[np.floating]) -> Verdict:
    """Judge the readings of one device or, better, of many that have the same units.

    Parameters
    ----------
    pieces : (k, 3) floating
        A row for each piece, as `measure` gives it.
    """
    if len(pieces) < MIN_PIECES:
        return Verdict((), len(pieces), np.nan, np.nan, np.nan)
    lengths = pieces[:, 0]
    small, few = lengths < NEAR_G[1], max(FEW_PIECES, FEW_SHARE * len(pieces))
    accel, gyro = float(np.median(lengths)), float(np.quantile(pieces[:, 2], FAST_SHARE))
    doubts, doubtful = [], np.ones(len(pieces), np.bool_)
    if accel > TOO_LARGE:
        doubts.append(Doubt.ACCEL_TOO_LARGE)
    elif max(accel, pieces[:, 1].mean()) < TOO_SMALL:
        doubts.append(_why_small(lengths))
    elif np.count_nonzero(small) >= few:
        doubts.append(_why_small(lengths))
        doubtful = lengths < TOO_SMALL
    elif np.count_nonzero(lengths > FAR) >= few:
        doubts.append(Doubt.ACCEL_TOO_LARGE)
        doubtful = lengths > FAR
    if gyro > TOO_FAST:
        doubts.append(Doubt.GYRO_IN_DEGREES)
    typical, share = float(np.median(lengths[doubtful])), float(doubtful.mean())
    return Verdict(tuple(doubts), len(pieces), typical, share, gyro)


def judge_piece(piece: tuple[float, float, float]) -> Doubt | None:
    """What is doubtful about one piece alone, as `measure` gives it.

    People's own readings look like this now and then, so only several pieces of one device say
    that the device is wrong.
    """
    median, mean, gyro = piece
    if median > FAR:
        return Doubt.ACCEL_TOO_LARGE
    if max(median, mean) < TOO_SMALL:
        return Doubt.ACCEL_IN_G if NEAR_G[0] <= median < NEAR_G[1] else Doubt.NO_GRAVITY
    return Doubt.GYRO_IN_DEGREES if gyro > TOO_FAST else None


def _why_small(lengths: NDArray[np.floating]) -> Doubt:
    """What is doubtful where many pieces are too small."""
    near_g = (lengths >= NEAR_G[0]) & (lengths < NEAR_G[1])
    is_in_g = np.count_nonzero(near_g) >= G_SHARE * np.count_nonzero(lengths < TOO_SMALL)
    return Doubt.ACCEL_IN_G if is_in_g else Doubt.NO_GRAVITY
