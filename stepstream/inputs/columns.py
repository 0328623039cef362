"""Input and output of every format: it turns messages into columns of readings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.errors import InvalidMessage
    from stepstream.inputs.schemas import Schemas

    Headers = Sequence[tuple[str, bytes | None]]
    ReadHeaders = Callable[[int], Headers]

__all__ = [
    "ACCELEROMETER",
    "ACCELEROMETER_BIT",
    "FIELDS",
    "GYROSCOPE",
    "GYROSCOPE_BIT",
    "MAX_MESSAGE_BYTES",
    "MAX_READINGS",
    "Columns",
    "Decoded",
    "InputFormat",
    "Messages",
    "Opened",
]

MAX_MESSAGE_BYTES = 1 << 20
MAX_READINGS = 10_000
"""In one message."""

ACCELEROMETER = ("accel_x", "accel_y", "accel_z")
GYROSCOPE = ("gyro_x", "gyro_y", "gyro_z")
ACCELEROMETER_BIT = 1
GYROSCOPE_BIT = 2
FIELDS = ("timestamp", *ACCELEROMETER, *GYROSCOPE)


@dataclass(frozen=True, slots=True)
class Messages:
    """Messages to be decoded together, in columns.

    Attributes
    ----------
    values : (n,)
        What `InputFormat.open` made of their values.
    device_ids : (n,)
        The device of each, see `decode_device_id`.
    record_ms : (n,) int64
        Times of their records, milliseconds since the epoch: for readings without a time.
    latest_us : (n,) float64 or int64, or int
        Readings later than this lie in the future, microseconds since the epoch. One number for
        all messages, or one for each.
    """

    values: Sequence[Any]
    device_ids: Sequence[str]
    record_ms: NDArray[np.int64]
    latest_us: NDArray[np.float64] | NDArray[np.int64] | int


class Decoded(NamedTuple):
    """Readings of messages, in columns, and the messages that gave none.

    Attributes
    ----------
    message : (n,) intp
        Row of the message that carried the reading, ascending.
    time_us : (n,) int64
        Time of the reading, microseconds since the epoch.
    axes : (n, 6) float32
        Acceleration in m/s^2, angular velocity in rad/s.
    invalid
        Invalid messages by their row. None of their readings is in the columns.
    sensors : (n,) uint8, or None
        Which sensors the reading is of: `ACCELEROMETER_BIT`, `GYROSCOPE_BIT`, or both. The axes
        of the other are 0. None if the format's readings are always of both, or there are none: a
        device's readings have this column either always or never.
    """

    message: NDArray[np.intp]
    time_us: NDArray[np.int64]
    axes: NDArray[np.float32]
    invalid: dict[int, InvalidMessage]
    sensors: NDArray[np.uint8] | None = None

    def without(self, rows: Collection[int]) -> Decoded:
        """The readings of all but some messages."""
        good = ~np.isin(self.message, list(rows))
        sensors = None if self.sensors is None else self.sensors[good]
        return Decoded(
            self.message[good], self.time_us[good], self.axes[good], self.invalid, sensors
        )


class Columns(NamedTuple):
    """Readings of messages, before their units and ranges are looked at.

    Attributes
    ----------
    message : (n,) intp
        Row of the message of each reading, ascending.
    columns : (7, n) float64
        A row for each of `FIELDS`: microseconds since the epoch, and axes in the layout's units.
        A row for each of `FIELDS`: times, and axes in the layout's units.
        See `Decoded`.
    """

    message: NDArray[np.intp]
    columns: NDArray[np.float64]
    sensors: NDArray[np.uint8] | None

    @classmethod
    def none(cls) -> Columns:
        """No readings."""
        return cls(np.empty(0, np.intp), np.empty((len(FIELDS), 0)), None)

    @classmethod
    def merge(cls, parts: Sequence[Columns]) -> Columns:
        """The readings of several parts, by message; those of a message keep their order."""
        parts = [part for part in parts if len(part.message)]
        if len(parts) < 2:
            return parts[0] if parts else cls.none()
        message = np.concatenate([part.message for part in parts])
        order = np.argsort(message, kind="stable")
        columns = np.concatenate([part.columns for part in parts], axis=1)
        bits = [part.sensors for part in parts if part.sensors is not None]
        sensors = np.concatenate(bits)[order] if bits else None
        return cls(message[order], columns[:, order], sensors)

    def without(self, rows: Collection[int]) -> Columns:
        """The readings of all but some messages."""
        good = ~np.isin(self.message, list(rows))
        sensors = None if self.sensors is None else self.sensors[good]
        return Columns(self.message[good], self.columns[:, good], sensors)


class Opened(NamedTuple):
    """Messages whose devices are known.

    Attributes
    ----------
    keys : (n,)
        The device ids, UTF-8; None if a message is invalid or has no key.
    values : (n,)
        What `InputFormat.decode` takes.
    invalid
        Invalid messages by their row.
    """

    keys: Sequence[bytes | None]
    values: Sequence[Any]
    invalid: dict[int, InvalidMessage]


class InputFormat(Protocol):
    """How messages encode their readings."""

    @property
    def schemas(self) -> Schemas | None:
        """Schemas that have to be fetched before messages can be opened; None if there are none."""

    def open(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], headers: ReadHeaders
    ) -> Opened:
        """Find out which device each message is of.

        Parameters
        ----------
        keys, values : (n,)
            Of the messages.
        headers
            Gives the headers of the message in a row; only called where a header is needed.
        """

    def decode(self, messages: Messages) -> Decoded:
        """Decode all messages that were opened together; one that is invalid affects no other.

        Whether a message is valid, and what it gives, doesn't depend on the other messages.
        """
