"""Units, ranges and times of decoded readings: the same rules for every format."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from stepstream.inputs.columns import FIELDS, MAX_MESSAGE_BYTES, Decoded
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.settings.inputs import ACCELERATIONS, ANGULAR_VELOCITIES, unit_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.columns import Columns, Messages
    from stepstream.settings import InputSettings

__all__ = [
    "MAX_ACCELERATION",
    "MAX_ANGULAR_VELOCITY",
    "MAX_TIME_US",
    "Units",
    "check_device_id",
    "check_size",
    "validate",
]

MAX_ACCELERATION = 400.0
"""Of each axis, m/s^2."""
MAX_ANGULAR_VELOCITY = 100.0
"""Of each axis, rad/s."""
MAX_TIME_US = 1 << 53
"""In the year 2255. Later times are no whole microseconds in float64."""
MAX_INT64 = (1 << 63) - 1

_US_OF_UNIT = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}


@dataclass(frozen=True, slots=True)
class Units:
    """What a 1 in a message is.

    Attributes
    ----------
    time_us
        Of time, microseconds.
    acceleration
        Of acceleration, m/s^2.
    angular_velocity
        Of angular velocity, rad/s.
    """

    time_us: float = 1e6
    acceleration: float = 1.0
    angular_velocity: float = 1.0

    @classmethod
    def of(cls, settings: InputSettings) -> Self:
        """The units that the settings name; seconds where times have no unit."""
        return cls(
            _US_OF_UNIT.get(settings.time_unit, 1e6),
            unit_factor(settings.accel_unit, ACCELERATIONS),
            unit_factor(settings.gyro_unit, ANGULAR_VELOCITIES),
        )


def check_device_id(claimed: str | None, device_id: str) -> None:
    """Check that a message names the device that it belongs to, or none.

    Raises
    ------
    InvalidMessage
        It names another.
    """
    if claimed != device_id and claimed is not None:
        raise InvalidMessage(
            ErrorCode.KEY_MISMATCH, f"device_id is {claimed[:80]!r}, the key is {device_id[:80]!r}"
        )


def check_size(value: bytes) -> None:
    """Check that a message's value is not too large.

    Raises
    ------
    InvalidMessage
        It is over 1 MiB.
    """
    if len(value) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(
            ErrorCode.TOO_LARGE, f"{len(value)} bytes, at most {MAX_MESSAGE_BYTES}"
        )


def validate(
    readings: Columns,
    messages: Messages,
    units: Units,
    invalid: dict[int, InvalidMessage],
    names: Sequence[str] = FIELDS,
) -> Decoded:
    """Convert the units of readings, and leave out messages of which a reading is invalid.

    Parameters
    ----------
    readings
        In the messages' units. NaN stands for what a reading lacks: its time, or all three axes of
        the gyroscope. The array is changed.
    messages
        The messages, for the times of their records and their latest times.
    units
        The messages' units.
    invalid
        Messages that gave no reading, by their row. Those that turn out to be invalid are added.
    names
        What errors call the columns.
    """
    message, columns, sensors = readings
    with np.errstate(over="ignore"):
        # Infinite is out of range, too.
        time_us = columns[0] * units.time_us
        accel, gyro = columns[1:4], columns[4:7]
        if units.acceleration != 1.0:
            accel *= units.acceleration
        if units.angular_velocity != 1.0:
            gyro *= units.angular_velocity
    untimed = np.flatnonzero(np.isnan(time_us))
    if len(untimed):
        time_us[untimed] = messages.record_ms[message[untimed]] * 1e3
    absent = np.isnan(gyro)
    if absent.any():
        gyro[:, absent.all(axis=0)] = 0.0
    if len(message) and not _all_valid(time_us, accel, gyro, messages.latest_us):
        latest_us = messages.latest_us
        if isinstance(latest_us, np.ndarray):
            latest_us = latest_us[message]
        bad = np.flatnonzero(
            ~(
                (np.abs(accel).max(axis=0) <= MAX_ACCELERATION)
                & (np.abs(gyro).max(axis=0) <= MAX_ANGULAR_VELOCITY)
                & (time_us >= 0)
                & (time_us <= np.minimum(latest_us, MAX_TIME_US))
            )
        )
        for place in bad:
            row = int(message[place])
            if row not in invalid:
                invalid[row] = _explain(accel[:, place], gyro[:, place], time_us[place], names)
        if len(bad):
            good = ~np.isin(message, list(invalid))
            message, time_us, columns = message[good], time_us[good], columns[:, good]
            sensors = None if sensors is None else sensors[good]
    axes = np.ascontiguousarray(columns[1:].T, np.float32)
    return Decoded(message, np.rint(time_us).astype(np.int64), axes, invalid, sensors)


def _all_valid(
    time_us: NDArray[np.float64],
    accel: NDArray[np.float64],
    gyro: NDArray[np.float64],
    latest_us: NDArray[np.float64] | NDArray[np.int64] | int,
) -> bool:
    """Whether all readings are valid, by the smallest of the latest times; the usual case."""
    if isinstance(latest_us, np.ndarray):
        latest_us = latest_us.min()
    # Comparisons with NaN, a gyroscope given in part, are false.
    return bool(
        np.abs(accel).max() <= MAX_ACCELERATION
        and np.abs(gyro).max() <= MAX_ANGULAR_VELOCITY
        and time_us.min() >= 0
        and time_us.max() <= min(latest_us, MAX_TIME_US)
    )


def _explain(
    accel: NDArray[np.float64],
    gyro: NDArray[np.float64],
    time_us: np.float64,
    names: Sequence[str],
) -> InvalidMessage:
    """Why a reading is invalid; it has numbers in every given field."""
    if np.isnan(gyro).any():
        return InvalidMessage(ErrorCode.MISSING_FIELD, f"only some of {', '.join(names[4:])}")
    for of_sensor, values, unit, limit in (
        (names[1:4], accel, "m/s^2", MAX_ACCELERATION),
        (names[4:], gyro, "rad/s", MAX_ANGULAR_VELOCITY),
    ):
        for name, value in zip(of_sensor, values.tolist(), strict=True):
            if not abs(value) <= limit:
                return InvalidMessage(
                    ErrorCode.OUT_OF_RANGE, f"{name} is {value:.6g} {unit}, at most {limit:.0f}"
                )
    if time_us < 0:
        return InvalidMessage(ErrorCode.OUT_OF_RANGE, f"{names[0]} is before 1970")
    return InvalidMessage(
        ErrorCode.TIME_IN_FUTURE,
        f"{names[0]} is {time_us / 1e6:.6f} s, ahead of the clock",
        math.ceil(min(float(time_us) - 0.5, MAX_INT64)),
    )
