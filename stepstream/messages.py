"""Readings in, events and dead letters out: bytes to columns and back."""

from __future__ import annotations

import json
import math
from enum import StrEnum
from itertools import chain, starmap
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import simdjson
from msgspec.structs import astuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from stepstream.settings import ProcessingSettings

__all__ = [
    "ACCELEROMETER",
    "GYROSCOPE",
    "MAX_ACCELERATION",
    "MAX_ANGULAR_VELOCITY",
    "MAX_DEVICE_ID_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_READINGS",
    "DeadLetter",
    "Decoded",
    "ErrorCode",
    "Event",
    "InvalidMessage",
    "ReadingsDecoder",
    "decode_device_id",
    "encode_event",
    "event_id",
    "make_dead_letter",
]

MAX_MESSAGE_BYTES = 1 << 20
MAX_READINGS = 10_000
MAX_DEVICE_ID_BYTES = 256
MAX_ACCELERATION = 400.0
MAX_ANGULAR_VELOCITY = 100.0
MAX_DEAD_LETTER_BYTES = 900_000
TRUNCATED_BYTES = 64 << 10
SHORT_BYTES = 800
"""About ten readings. A few numbers are faster as objects than simdjson is to be asked for them."""

ACCELEROMETER = ("accel_x", "accel_y", "accel_z")
GYROSCOPE = ("gyro_x", "gyro_y", "gyro_z")
FIELDS = ("timestamp", *ACCELEROMETER, *GYROSCOPE)
_COLUMNS_OF_BATCH = {4: FIELDS[:4], 7: FIELDS}

STANDARD_GRAVITY = 9.80665
_US_OF_UNIT = {"s": 1e6, "ms": 1e3, "us": 1.0, "ns": 1e-3}
_ACCELERATION_OF_UNIT = {"m/s2": 1.0, "g": STANDARD_GRAVITY}
_ANGULAR_VELOCITY_OF_UNIT = {"rad/s": 1.0, "deg/s": math.pi / 180}


class ErrorCode(StrEnum):
    """Why a message is a dead letter: the value of its ``stepstream-error`` header."""

    INVALID_JSON = "invalid-json"
    NULL_VALUE = "null-value"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    NOT_FINITE = "not-finite"
    OUT_OF_RANGE = "out-of-range"
    MISSING_KEY = "missing-key"
    INVALID_DEVICE_ID = "invalid-device-id"
    KEY_MISMATCH = "key-mismatch"
    UNEQUAL_COLUMNS = "unequal-columns"
    MISSING_TIMESTAMP = "missing-timestamp"
    TOO_MANY_READINGS = "too-many-readings"
    TOO_LARGE = "too-large"
    TIME_IN_FUTURE = "time-in-future"
    DEVICE_LIMIT = "device-limit"


class InvalidMessage(Exception):  # noqa: N818 - a finding about data, not an error of ours
    """A message that can't be taken, and why."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Decoded(NamedTuple):
    """Readings of a batch of messages, in columns, and the messages that gave none.

    ``message`` (n,) intp is the row of the message that carried the reading, ascending;
    ``time_us`` (n,) int64 its time in microseconds since the epoch; ``axes`` (n, 6) float32 in
    m/s^2 and rad/s. ``invalid`` has each invalid message's row; none of its readings is taken.
    """

    message: NDArray[np.intp]
    time_us: NDArray[np.int64]
    axes: NDArray[np.float32]
    invalid: dict[int, InvalidMessage]


_NAN = math.nan


class _Reading(msgspec.Struct, gc=False):
    # JSON has no NaN, so a NaN is a field that was left out.
    accel_x: float
    accel_y: float
    accel_z: float
    timestamp: float = _NAN
    gyro_x: float = _NAN
    gyro_y: float = _NAN
    gyro_z: float = _NAN
    device_id: str | None = None


class _Batch(msgspec.Struct, gc=False):
    timestamp: list[float]
    accel_x: list[float]
    accel_y: list[float]
    accel_z: list[float]
    gyro_x: list[float] | msgspec.UnsetType = msgspec.UNSET
    gyro_y: list[float] | msgspec.UnsetType = msgspec.UNSET
    gyro_z: list[float] | msgspec.UnsetType = msgspec.UNSET
    device_id: str | None = None


_decode_reading = msgspec.json.Decoder(_Reading).decode
_decode_lists = msgspec.json.Decoder(_Batch).decode
_columns_of = attrgetter(*FIELDS)
_PLACES = [_Reading.__struct_fields__.index(name) for name in FIELDS]
_NUMBERS = np.dtype([("numbers", np.float64, len(FIELDS)), ("has_id", np.bool_)])
_pack_numbers = Struct(f"={len(FIELDS)}d?").pack
_NOT_AS_EXPECTED = (msgspec.DecodeError, TypeError, RecursionError, UnicodeDecodeError)


class ReadingsDecoder:
    """Decodes messages of readings and validates them.

    Parameters
    ----------
    settings
        The readings' units, and how far ahead of the clock they may be.
    """

    def __init__(self, settings: ProcessingSettings) -> None:
        self._us = _US_OF_UNIT[settings.time_unit]
        self._accel = _ACCELERATION_OF_UNIT[settings.accel_unit]
        self._gyro = _ANGULAR_VELOCITY_OF_UNIT[settings.gyro_unit]
        self._max_ahead_us = round(settings.max_ahead_s * 1e6)
        self._parser = simdjson.Parser()

    def decode(
        self,
        values: Sequence[bytes | None],
        device_ids: Sequence[str],
        record_ms: ArrayLike,
        now_us: int,
    ) -> Decoded:
        """Decode a batch of messages.

        Parameters
        ----------
        values
            Message values.
        device_ids
            Their keys' device ids, see `decode_device_id`.
        record_ms
            Their records' times, milliseconds since the epoch, for readings without a time.
        now_us
            The clock, microseconds since the epoch; readings far ahead of it are invalid.
        """
        invalid: dict[int, InvalidMessage] = {}
        records = _decode_singles(values, device_ids)
        if records is not None:
            return self._validate(
                np.arange(len(records)), _single_columns(records), record_ms, now_us, invalid
            )
        short = _decode_short_batches(values, device_ids)
        if short is not None:
            return self._validate(*short, record_ms, now_us, invalid)
        rows: list[int] = []
        records = []
        batch_rows: list[int] = []
        batches: list[list[bytes]] = []
        for row, (value, device_id) in enumerate(zip(values, device_ids, strict=True)):
            try:
                batch = self._decode_plain_batch(value, device_id)
                if batch is None:
                    try:
                        record = _decode_reading(value)  # type: ignore[arg-type]
                    except _NOT_AS_EXPECTED:
                        batch = _decode_batch(value, device_id)
                    else:
                        _check_device_id(record.device_id, device_id)
                        _check_size(value)  # type: ignore[arg-type]
                        rows.append(row)
                        records.append(record)
                        continue
                batches.append(batch)
                batch_rows.append(row)
            except InvalidMessage as error:
                invalid[row] = error
        message, columns = np.array(rows, np.intp), _single_columns(records)
        if batches:
            message, columns = _merge(message, columns, np.array(batch_rows, np.intp), batches)
        return self._validate(message, columns, record_ms, now_us, invalid)

    def _decode_plain_batch(self, value: bytes | None, device_id: str) -> list[bytes] | None:
        """Columns of a batch that is as expected in all respects, or None: to be looked at closely.

        simdjson copies an array of numbers without a Python object for each, in a third of the
        time. But it flattens nested arrays, takes the first of repeated names and a byte order
        mark; so each array has to be one of ours, and each name to be there once.
        """
        if value is None or len(value) > MAX_MESSAGE_BYTES or not value.startswith(b"{"):
            return None
        arrays = value.count(b"[")
        if arrays not in _COLUMNS_OF_BATCH:
            return None
        try:
            document: Any = self._parser.parse(value)
            columns = [
                bytes(document[name].as_buffer(of_type="d")) for name in _COLUMNS_OF_BATCH[arrays]
            ]
            if len(document) > arrays and not (
                len(document) == arrays + 1 and document["device_id"] == device_id
            ):
                return None
        except (ValueError, TypeError, KeyError, AttributeError, RuntimeError):
            return None
        size = len(columns[0])
        if size > MAX_READINGS * 8 or any(len(column) != size for column in columns):
            return None
        return columns + [bytes(size)] * (len(FIELDS) - arrays)

    def _validate(
        self,
        message: NDArray[np.intp],
        columns: NDArray[np.float64],
        record_ms: ArrayLike,
        now_us: int,
        invalid: dict[int, InvalidMessage],
    ) -> Decoded:
        time_us = columns[0] * self._us
        untimed = np.flatnonzero(np.isnan(time_us))
        if len(untimed):
            time_us[untimed] = np.asarray(record_ms)[message[untimed]] * 1e3
        accel, gyro = columns[1:4], columns[4:7]
        absent = np.isnan(gyro)
        if absent.any():
            gyro[:, absent.all(axis=0)] = 0.0
        if self._accel != 1.0:
            accel *= self._accel
        if self._gyro != 1.0:
            gyro *= self._gyro
        latest_us = now_us + self._max_ahead_us
        # Comparisons with NaN, a gyroscope given in part, are false.
        if len(message) and not (
            np.abs(accel).max() <= MAX_ACCELERATION
            and np.abs(gyro).max() <= MAX_ANGULAR_VELOCITY
            and time_us.min() >= 0
            and time_us.max() <= latest_us
        ):
            good = (
                (np.abs(accel).max(axis=0) <= MAX_ACCELERATION)
                & (np.abs(gyro).max(axis=0) <= MAX_ANGULAR_VELOCITY)
                & (time_us >= 0)
                & (time_us <= latest_us)
            )
            for place in np.flatnonzero(~good):
                row = int(message[place])
                if row not in invalid:
                    invalid[row] = _explain_reading(accel[:, place], gyro[:, place], time_us[place])
            good = ~np.isin(message, list(invalid))
            message, time_us, columns = message[good], time_us[good], columns[:, good]
        axes = np.ascontiguousarray(columns[1:].T, np.float32)
        return Decoded(message, np.rint(time_us).astype(np.int64), axes, invalid)


def _decode_singles(
    values: Sequence[bytes | None], device_ids: Sequence[str]
) -> list[_Reading] | None:
    """The readings, if all messages are valid single ones, which is the common case."""
    try:
        records = list(map(_decode_reading, values))  # type: ignore[arg-type]
    except _NOT_AS_EXPECTED:
        return None
    if not _device_ids_agree(records, device_ids):
        return None
    if max(map(len, values), default=0) > MAX_MESSAGE_BYTES:  # type: ignore[arg-type]
        return None
    return records


def _decode_short_batches(
    values: Sequence[bytes | None], device_ids: Sequence[str]
) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
    """Row and columns of the readings, if all messages are valid batches of a few."""
    try:
        if max(map(len, values)) > SHORT_BYTES:  # type: ignore[arg-type]
            return None
        batches = list(map(_decode_lists, values))  # type: ignore[arg-type]
    except _NOT_AS_EXPECTED:
        return None
    if not _device_ids_agree(batches, device_ids):
        return None
    sizes = [len(batch.timestamp) for batch in batches]
    columns = np.zeros((len(FIELDS), sum(sizes)))
    given = FIELDS[:4] if batches[0].gyro_x is msgspec.UNSET else FIELDS
    for column, name in zip(columns, FIELDS, strict=True):
        lists = list(map(attrgetter(name), batches))
        if name in given:
            if msgspec.UNSET in lists or list(map(len, lists)) != sizes:
                return None
            column[:] = np.fromiter(chain.from_iterable(lists), np.float64, len(column))
        elif lists.count(msgspec.UNSET) < len(lists):
            return None
    return np.repeat(np.arange(len(batches)), sizes), columns


def _device_ids_agree(
    records: Sequence[_Reading] | Sequence[_Batch], device_ids: Sequence[str]
) -> bool:
    """Whether no record names another device than its key does."""
    claimed = [record.device_id for record in records]
    return claimed == device_ids or claimed.count(None) == len(claimed)


def _single_columns(records: list[_Reading]) -> NDArray[np.float64]:
    """One row for each of `FIELDS`."""
    packed = b"".join(starmap(_pack_numbers, map(astuple, records)))
    return np.frombuffer(packed, _NUMBERS)["numbers"].T[_PLACES]


def _merge(
    message: NDArray[np.intp],
    columns: NDArray[np.float64],
    batch_rows: NDArray[np.intp],
    batches: list[list[bytes]],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Readings of single messages and of batches, in the order of the messages."""
    by_field = chain.from_iterable(zip(*batches, strict=True))
    batched = np.frombuffer(bytearray().join(by_field)).reshape(len(FIELDS), -1)
    batch_message = np.repeat(batch_rows, [len(batch[0]) // 8 for batch in batches])
    if not len(message):
        return batch_message, batched
    message = np.concatenate([message, batch_message])
    order = np.argsort(message, kind="stable")
    return message[order], np.concatenate([columns, batched], axis=1)[:, order]


def _decode_batch(value: bytes | None, device_id: str) -> list[bytes]:
    """Columns of the batch form, float64; or find out why a message is in neither form."""
    if value is None:
        raise InvalidMessage(ErrorCode.NULL_VALUE, "the message has no value")
    _check_size(value)
    try:
        batch = _decode_lists(value)
    except _NOT_AS_EXPECTED as error:
        raise _explain_message(value, error) from None
    given = [column for column in _columns_of(batch) if column is not msgspec.UNSET]
    if len(set(map(len, given))) > 1:
        lengths = ", ".join(map(str, map(len, given)))
        raise InvalidMessage(ErrorCode.UNEQUAL_COLUMNS, f"arrays of {lengths} numbers")
    if len(given) not in _COLUMNS_OF_BATCH:
        raise InvalidMessage(ErrorCode.MISSING_FIELD, "only some of gyro_x, gyro_y, gyro_z")
    size = len(batch.timestamp)
    if size > MAX_READINGS:
        raise InvalidMessage(
            ErrorCode.TOO_MANY_READINGS, f"{size} readings, at most {MAX_READINGS}"
        )
    _check_device_id(batch.device_id, device_id)
    columns = [np.array(column, np.float64).tobytes() for column in given]
    return columns + [bytes(8 * size)] * (len(FIELDS) - len(columns))


def _explain_message(value: bytes, error: Exception) -> InvalidMessage:
    """Why a message can't be decoded; slow and thorough, for those few."""
    try:
        # Unlike JSON proper, this takes NaN and Infinity, which is what some senders write.
        content = json.loads(value)
    except (ValueError, RecursionError):
        return InvalidMessage(ErrorCode.INVALID_JSON, _first_line(error))
    if not isinstance(content, dict):
        return InvalidMessage(
            ErrorCode.WRONG_TYPE, f"expected an object, got {type(content).__name__}"
        )
    for name in ACCELEROMETER:
        if name not in content:
            return InvalidMessage(ErrorCode.MISSING_FIELD, f"{name} is missing")
    if content.get("device_id") is not None and not isinstance(content["device_id"], str):
        return InvalidMessage(ErrorCode.WRONG_TYPE, "device_id must be a string")
    return _explain_fields({name: content[name] for name in FIELDS if name in content}, error)


def _explain_fields(given: dict[str, Any], error: Exception) -> InvalidMessage:
    numbers = []
    for name, field in given.items():
        for number in field if isinstance(field, list) else [field]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                kind = type(number).__name__
                return InvalidMessage(ErrorCode.WRONG_TYPE, f"{name} must be numbers, got {kind}")
            numbers.append((name, number))
    for name, number in numbers:
        if not isinstance(number, int) and not math.isfinite(number):
            return InvalidMessage(ErrorCode.NOT_FINITE, f"{name} is {number}")
    batched = [isinstance(field, list) for field in given.values()]
    if any(batched) and not all(batched):
        return InvalidMessage(ErrorCode.UNEQUAL_COLUMNS, "some fields are arrays, some numbers")
    if all(batched) and "timestamp" not in given:
        return InvalidMessage(ErrorCode.MISSING_TIMESTAMP, "a batch needs timestamps")
    for name, number in numbers:
        if abs(number) > 1e300:
            return InvalidMessage(ErrorCode.OUT_OF_RANGE, f"{name} is out of range")
    return InvalidMessage(ErrorCode.INVALID_JSON, _first_line(error))


def _explain_reading(
    accel: NDArray[np.float64], gyro: NDArray[np.float64], time_us: np.float64
) -> InvalidMessage:
    """Why a reading with numbers in every given field is invalid."""
    if np.isnan(gyro).any():
        return InvalidMessage(ErrorCode.MISSING_FIELD, "only some of gyro_x, gyro_y, gyro_z")
    for names, values, unit, limit in (
        (ACCELEROMETER, accel, "m/s^2", MAX_ACCELERATION),
        (GYROSCOPE, gyro, "rad/s", MAX_ANGULAR_VELOCITY),
    ):
        for name, value in zip(names, values.tolist(), strict=True):
            if not abs(value) <= limit:
                return InvalidMessage(
                    ErrorCode.OUT_OF_RANGE, f"{name} is {value:.6g} {unit}, at most {limit:.0f}"
                )
    if time_us < 0:
        return InvalidMessage(ErrorCode.OUT_OF_RANGE, "timestamp is before 1970")
    return InvalidMessage(
        ErrorCode.TIME_IN_FUTURE, f"timestamp is {time_us / 1e6:.6f} s, ahead of the clock"
    )


def _check_device_id(claimed: str | None, device_id: str) -> None:
    if claimed != device_id and claimed is not None:
        raise InvalidMessage(
            ErrorCode.KEY_MISMATCH, f"device_id is {claimed[:80]!r}, the key is {device_id[:80]!r}"
        )


def _check_size(value: bytes) -> None:
    if len(value) > MAX_MESSAGE_BYTES:
        raise InvalidMessage(
            ErrorCode.TOO_LARGE, f"{len(value)} bytes, at most {MAX_MESSAGE_BYTES}"
        )


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]


def decode_device_id(key: bytes | None) -> str:
    """The device id that a message's key holds.

    Raises
    ------
    InvalidMessage
        There is no key, or it is empty, over 256 bytes, or not UTF-8.
    """
    if key is None:
        raise InvalidMessage(ErrorCode.MISSING_KEY, "the key is the device id")
    if not 0 < len(key) <= MAX_DEVICE_ID_BYTES:
        raise InvalidMessage(
            ErrorCode.INVALID_DEVICE_ID, f"{len(key)} bytes, 1 to {MAX_DEVICE_ID_BYTES} expected"
        )
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise InvalidMessage(ErrorCode.INVALID_DEVICE_ID, "the key is not UTF-8") from None


class Event(msgspec.Struct, frozen=True):
    """A step, as it is published.

    Attributes
    ----------
    event_id
        Names the step, the same however often it is computed; left out without Kafka.
    device_id
        The device.
    step_count
        Steps of the device so far, with this one.
    started_at, ended_at
        When the heel lifted and when the toe struck, seconds since the epoch.
    start_probability, end_probability
        What the model gave for these moments.
    model
        Its name and version.
    """

    event_id: str | msgspec.UnsetType
    device_id: str
    step_count: int
    started_at: float
    ended_at: float
    start_probability: float
    end_probability: float
    model: str

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - all that an event is
        cls,
        device_id: str,
        step_count: int,
        start_us: int,
        end_us: int,
        start_probability: float,
        end_probability: float,
        model: str,
        event_id: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> Event:
        """An event from a step as the detector gives it, times in microseconds."""
        return cls(
            event_id,
            device_id,
            step_count,
            start_us / 1e6,
            end_us / 1e6,
            round(start_probability, 4),
            round(end_probability, 4),
            model,
        )


encode_event = msgspec.json.Encoder().encode
"""Bytes of an event: JSON, fields in the order of `Event`."""


def event_id(topic: str, partition: int, offset: int, number: int) -> str:
    """Name of the ``number``-th step that the message at ``offset`` completed."""
    return f"{topic}-{partition}-{offset}-{number}"


class DeadLetter(NamedTuple):
    """A message to be set aside: what is produced to the dead-letter topic."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    code: ErrorCode


def make_dead_letter(  # noqa: PLR0913 - all that a record is
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    error: InvalidMessage,
) -> DeadLetter:
    """The dead letter of an invalid message: as it came, with headers that say what was wrong.

    A message so large that no topic would take it is cut to its first 64 KiB; if its headers
    alone are that large, they are left out.
    """
    added: list[tuple[str, bytes | None]] = [
        ("stepstream-error", error.code.encode()),
        ("stepstream-error-detail", error.detail.encode()),
        ("stepstream-topic", topic.encode()),
        ("stepstream-partition", str(partition).encode()),
        ("stepstream-offset", str(offset).encode()),
        ("stepstream-timestamp", str(timestamp_ms).encode()),
    ]
    header_bytes = sum(len(name.encode()) + len(content or b"") + 8 for name, content in headers)
    size = len(key or b"") + len(value or b"") + header_bytes
    if size > MAX_DEAD_LETTER_BYTES:
        added.append(("stepstream-truncated", str(size).encode()))
        value = value and value[:TRUNCATED_BYTES]
        key = key and key[:TRUNCATED_BYTES]
        if header_bytes > MAX_DEAD_LETTER_BYTES // 2:
            headers = []
    return DeadLetter(key, value, [*headers, *added], error.code)
