"""Recordings in files: CSV with one row a reading, or messages."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stepstream.errors import RecordingError
from stepstream.inputs import (
    ACCELEROMETER,
    ACCELEROMETER_BIT,
    GYROSCOPE,
    GYROSCOPE_BIT,
    MAX_ACCELERATION,
    MAX_ANGULAR_VELOCITY,
)
from stepstream.inspection import decode_excerpt, read_file, read_whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from stepstream.settings import InputSettings, RegistrySettings

__all__ = ["Recording", "read_messages", "read_recording"]

JSON_FORMATS = {"json", "json-schema", "senml"}
"""Formats of which a file may have a message in each line."""
NO_TIME_MS = -1
"""Time of the record of a message that is in a file: readings without a time are refused by it."""
TIME_COLUMNS = ("timestamp", "time")


@dataclass(frozen=True)
class Recording:
    """One device's readings from a file.

    Attributes
    ----------
    device_id
        The file's name without ``.csv`` or ``.csv.gz``.
    time_s : (n,) float64
        Times in seconds, with the origin of the file; not necessarily ascending.
    axes : (n, 6) float64
        Acceleration in m/s^2, angular velocity in rad/s (0 without a gyroscope).
    sensors : (n,) uint8, or None
        What each reading is of if the sensors send apart, see `Decoded`.
    """

    device_id: str
    time_s: NDArray[np.float64]
    axes: NDArray[np.float64]
    sensors: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def has_accel(self) -> NDArray[np.bool_]:
        """Which readings are of the accelerometer, (n,)."""
        return self._has(ACCELEROMETER_BIT)

    @property
    def has_gyro(self) -> NDArray[np.bool_]:
        """Which readings are of the gyroscope, (n,)."""
        return self._has(GYROSCOPE_BIT)

    def _has(self, sensor: int) -> NDArray[np.bool_]:
        if self.sensors is None:
            return np.ones(len(self), np.bool_)
        return (self.sensors & sensor).astype(np.bool_)


def read_recording(path: Path, rate_hz: float | None = None) -> Recording:
    """Read a recording: ``timestamp`` or ``time``, ``accel_*``, and optionally ``gyro_*``.

    Parameters
    ----------
    path
        A ``.csv`` or ``.csv.gz`` file with a header; other columns are ignored.
    rate_hz
        For a file without a time column: row i is at i / rate_hz seconds.

    Raises
    ------
    RecordingError
        The file can't be read, lacks a column, is empty, or has a value that isn't a number of a
        sensor; the message names the line.
    """
    text = _read_text(path)
    header, _, body = text.partition("\n")
    names = [name.strip().strip('"') for name in header.lstrip("\ufeff").split(",")]
    time_column = next((name for name in TIME_COLUMNS if name in names), None)
    if time_column is None and rate_hz is None:
        raise RecordingError(
            f"{path}: no column timestamp or time; give the rate of its rows with --rate"
        )
    given = [name for name in GYROSCOPE if name in names]
    if len(given) not in {0, 3}:
        raise RecordingError(f"{path}: only some of gyro_x, gyro_y, gyro_z")
    wanted = [*([time_column] if time_column else []), *ACCELEROMETER, *given]
    missing = [name for name in wanted if name not in names]
    if missing:
        raise RecordingError(f"{path}: no column {missing[0]}")
    if not body.strip():
        raise RecordingError(f"{path}: no rows")
    places = [names.index(name) for name in wanted]
    try:
        table = np.loadtxt(io.StringIO(body), delimiter=",", usecols=places, ndmin=2, quotechar='"')
    except (ValueError, IndexError):
        raise RecordingError(_first_fault(path, body, places, wanted)) from None
    time_s = table[:, 0] if time_column else np.arange(len(table)) / (rate_hz or 1.0)
    axes = np.zeros((len(table), 6))
    values = table[:, 1:] if time_column else table
    axes[:, : values.shape[1]] = values
    _check_range(path, time_s, axes)
    device_id = path.name.removesuffix(".gz").removesuffix(".csv")
    return Recording(device_id, time_s, axes)


def read_messages(
    path: Path, settings: InputSettings, registry: RegistrySettings, latest_us: int
) -> list[Recording]:
    """Read a file of messages: of JSON as `read_file` does, else the file is one message.

    Parameters
    ----------
    path
        The file, may be compressed with gzip.
    settings, registry
        How the messages are written. If the file has neither keys nor headers, and the id is there,
        what a message has as ``device_id`` is the id, or else the file's name.
    latest_us
        Readings later than this are refused, microseconds since the epoch.

    Returns
    -------
    list of Recording
        One for each device.

    Raises
    ------
    RecordingError
        The file can't be read, or a message is invalid; the error names it.
    RegistryAwayError
        The schema registry can't be asked.
    """
    excerpt = read_file(path) if settings.format in JSON_FORMATS else read_whole_file(path)
    messages = excerpt.messages
    if settings.time_unit == "record" and any(one.record_ms is None for one in messages):
        raise RecordingError(f"{path}: not all messages in it have a record, whose time is needed")
    if settings.device_id.startswith("header:") and not any(one.headers for one in messages):
        settings = settings.with_changes({"device_id": "key"})
    ids, _, decoded, invalid = decode_excerpt(settings, registry, excerpt, latest_us, NO_TIME_MS)
    for row, error in invalid.items():
        raise RecordingError(f"{path}, {messages[row].place}: {error.code}: {error.detail}")
    by_device: dict[str, list[int]] = {}
    for row, device_id in enumerate(ids):
        by_device.setdefault(device_id, []).append(row)
    found = []
    for device_id, rows in by_device.items():
        mine = np.isin(decoded.message, rows)
        axes = decoded.axes[mine].astype(np.float64)
        sensors = None if decoded.sensors is None else decoded.sensors[mine]
        found.append(Recording(device_id, decoded.time_us[mine] / 1e6, axes, sensors))
    return found


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path}: {error}") from None


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except OSError as error:
        raise RecordingError(f"{path}: {error.strerror or error}") from None
    except EOFError as error:
        raise RecordingError(f"{path}: {error}") from None


def _first_fault(path: Path, body: str, places: list[int], names: list[str]) -> str:
    for number, line in enumerate(body.splitlines(), start=2):
        cells = [cell.strip().strip('"') for cell in line.split(",")]
        if not line.strip():
            continue
        for place, name in zip(places, names, strict=True):
            if place >= len(cells):
                return f"{path}, line {number}: no {name}"
            try:
                float(cells[place])
            except ValueError:
                return f"{path}, line {number}: {name} is {cells[place]!r}, not a number"
    return f"{path}: rows of unequal length"


def _check_range(path: Path, time_s: NDArray[np.float64], axes: NDArray[np.float64]) -> None:
    limits = np.array([MAX_ACCELERATION] * 3 + [MAX_ANGULAR_VELOCITY] * 3)
    wrong = ~(np.abs(axes) <= limits).all(axis=1) | ~((time_s >= 0) & np.isfinite(time_s))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise RecordingError(
            f"{path}, line {row + 2}: out of range, expected time >= 0, acceleration up to "
            f"{MAX_ACCELERATION:.0f} m/s^2, angular velocity up to {MAX_ANGULAR_VELOCITY:.0f} rad/s"
        )
