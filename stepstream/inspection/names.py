"""What names in messages usually mean."""

from __future__ import annotations

import re

__all__ = ["axis_of", "is_id", "is_period", "is_rate", "may_be_id", "sensor_of", "time_rank"]

ACCELEROMETER = {"a", "acc", "accel", "acceleration", "lsm6dsoacc"}
GYROSCOPE = {"g", "gyr", "gyro", "w", "omega", "rot", "rotation", "rotationrate", "angularvelocity"}
WITHOUT_GRAVITY = ("linear", "user", "nogravity", "withoutgravity")
WITH_GRAVITY = ("total", "including", "raw", "withgravity")
TIMES = (
    "timestamp", "time", "ts", "t", "eventtime", "sampletime", "measuredat", "recordedat",
    "datetime", "epoch", "at", "date", "t0", "start", "begin",
)  # fmt: skip
"""In the order in which they are tried; then any other name with "time" in it."""
FILLING = re.compile(r"^(array|imu|raw|sensor)|(array|data|samples|values)$")
"""What names of sensors may begin or end with."""
ROTATION = {"beta": "x", "gamma": "y", "alpha": "z"}
"""Axes of a browser's `rotationRate`."""
RATES = {"rate", "hz", "fs", "freq", "frequency", "samplerate", "samplingrate", "odr"}
PERIODS = {"period", "dt", "interval", "sampleperiod", "samplinginterval", "delta"}
IDS = {
    "deviceid", "device", "deviceuuid", "devid", "deveui", "imei", "serial", "serialnumber",
    "mac", "macaddress", "sensorid", "thingid", "clientid", "endpoint", "devicename", "nodeid",
    "bn",
}  # fmt: skip


def plain(name: str | int) -> str:
    """A name in small letters, without what stands between words."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def sensor_of(name: str | int) -> tuple[str, int] | None:
    """Which sensor a name is of, ``accel`` or ``gyro``, and how good: 1 if gravity is included.

    A name for the acceleration without gravity is None, like any other.
    """
    word = plain(name)
    if any(part in word for part in WITHOUT_GRAVITY):
        return None
    bare = FILLING.sub("", word)
    if bare in ACCELEROMETER or "accel" in word:
        return "accel", int(any(part in word for part in WITH_GRAVITY))
    if bare in GYROSCOPE or "gyro" in word:
        return "gyro", 0
    return None


def axis_of(parts: tuple[str | int, ...]) -> tuple[str, str | None] | None:
    """The axis and the name of the sensor in a path such as ``acc.x``, ``accel_x`` or ``ax``.

    The name of the sensor is None if there is none, as in ``x``. None if it is no axis.
    """
    last = plain(parts[-1])
    if last in ROTATION and len(parts) > 1:
        return ROTATION[last], str(parts[-2])
    if not last or last[-1] not in "xyz" or isinstance(parts[-1], int):
        return None
    stem = last[:-1]
    if not stem and len(parts) > 1:
        return last[-1], str(parts[-2])
    return last[-1], stem or None


def time_rank(name: str | int) -> int | None:
    """How soon a field of this name is tried as the time; None if it is none."""
    word = plain(name)
    if word in TIMES:
        return TIMES.index(word)
    return len(TIMES) if "time" in word or word.endswith("ts") else None


def is_rate(name: str | int) -> bool:
    """Whether it may be readings a second."""
    return plain(name) in RATES


def is_period(name: str | int) -> bool:
    """Whether it may be the time between two readings."""
    return plain(name) in PERIODS


def is_id(parts: tuple[str | int, ...]) -> bool:
    """Whether it is the id of a device, such as ``deviceId`` or ``device.id``."""
    if plain(parts[-1]) in IDS:
        return True
    return may_be_id(parts) and len(parts) > 1 and plain(parts[-2]) == "device"


def may_be_id(parts: tuple[str | int, ...]) -> bool:
    """Whether it may be the id of a device or of something else."""
    return plain(parts[-1]) in {"id", "uid", "uuid", "name"}
