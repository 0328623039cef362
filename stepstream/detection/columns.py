"""Readings and steps as columns: what goes into the detector and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = [
    "ACCELEROMETER",
    "GYROSCOPE",
    "Columns",
    "Readings",
    "SplitReadings",
    "Steps",
    "first_rows",
    "rows_by_number",
    "select",
    "shift",
]

ACCELEROMETER, GYROSCOPE = 1, 2
"""The bits of `SplitReadings.sensors`."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Arrays of one length: row i of each belongs together.

    Attributes
    ----------
    slot : (n,) intp
        The device's slot in the detector.
    """

    slot: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.slot)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Self:
        """Rows by index, mask or slice, as new columns."""
        columns = (getattr(self, field.name) for field in fields(self))
        if isinstance(rows, np.ndarray) and rows.dtype == np.intp:
            # Several times faster for rows of more than one number.
            return type(self)(*(column.take(rows, axis=0) for column in columns))
        return type(self)(*(column[rows] for column in columns))

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        """All rows of ``parts`` (at least one), in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            *(np.concatenate([getattr(p, field.name) for p in parts]) for field in fields(cls))
        )


@dataclass(frozen=True, slots=True)
class Readings(Columns):
    """Readings of many devices, those of one device in the order in which they arrived.

    Attributes
    ----------
    slot : (n,) intp
        See `Columns`.
    time_us : (n,) int64
        When the sensor was read, microseconds since the epoch.
    axes : (n, 6) float32
        Acceleration x, y, z in m/s^2 with gravity, angular velocity x, y, z in rad/s.
    offset : (n,) int64
        Input offset of the message that carried the reading; never decreases for a device.
    stream_ms : (n,) int64
        Stream time at that message, milliseconds since the epoch; never decreases for a device.
    span_ms : (n,) int64
        Time from the first reading of that message to its last one, milliseconds, as far as the
        rules consider it, see `Rules.spans_ms`.
    """

    time_us: NDArray[np.int64]
    axes: NDArray[np.float32]
    offset: NDArray[np.int64]
    stream_ms: NDArray[np.int64]
    span_ms: NDArray[np.int64]

    @staticmethod
    def none() -> Readings:
        """No readings."""
        return Readings(
            np.empty(0, np.intp),
            np.empty(0, np.int64),
            np.empty((0, 6), np.float32),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
        )


@dataclass(frozen=True, slots=True)
class SplitReadings(Readings):
    """Readings of devices whose sensors may send apart; see `Readings` for the other columns.

    Attributes
    ----------
    sensors : (n,) uint8
        What the reading is of: `ACCELEROMETER`, `GYROSCOPE`, or both bits. The axes of the other
        sensor are ignored.
    """

    sensors: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Steps(Columns):
    """Detected steps, those of one device together and in the order of their ends.

    Attributes
    ----------
    slot : (n,) intp
        See `Columns`.
    start_us, end_us : (n,) int64
        When the heel lifted and when the toe struck, microseconds since the epoch.
    start_probability, end_probability : (n,) float32
        What the model gave for these two moments; of the end, calibrated.
    offset : (n,) int64
        Input offset of the message whose reading completed the step.
    """

    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]
    start_probability: NDArray[np.float32]
    end_probability: NDArray[np.float32]
    offset: NDArray[np.int64]

    def rows(self) -> Iterator[tuple[int, int, float, float]]:
        """Start, end and their probabilities of each step, as plain numbers."""
        return zip(
            self.start_us.tolist(),
            self.end_us.tolist(),
            self.start_probability.tolist(),
            self.end_probability.tolist(),
            strict=True,
        )

    @classmethod
    def none(cls) -> Steps:
        """No steps."""
        return cls(
            np.empty(0, np.intp),
            np.empty(0, np.int64),
            np.empty(0, np.int64),
            np.empty(0, np.float32),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
        )


def first_rows(values: NDArray[Any]) -> NDArray[np.intp]:
    """Row of the first of each run of equal values.

    Parameters
    ----------
    values : (n,) array
        Anything that can be compared.

    Returns
    -------
    (m,) intp
        Ascending; empty if there are no values.
    """
    first = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return np.flatnonzero(first)


def shift(values: NDArray[Any], heads: NDArray[np.intp], before: NDArray[Any]) -> NDArray[Any]:
    """The value before each one; ``before`` has that of each of ``heads``."""
    if len(heads) == len(values):
        return before
    previous = np.empty_like(values)
    previous[1:] = values[:-1]
    previous[heads] = before
    return previous


def select(values: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """The values in some rows, in their order and each once: not copied if these are all rows."""
    return values if len(rows) == len(values) else values.take(rows, axis=0)


def rows_by_number(number: NDArray[np.integer[Any]], count: int) -> list[NDArray[np.intp]]:
    """Rows with each number from 0 to ``count`` - 1, ascending."""
    order = np.argsort(number, kind="stable")
    bounds = np.searchsorted(number[order], np.arange(count + 1))
    return [order[begin:end] for begin, end in pairwise(bounds.tolist())]
