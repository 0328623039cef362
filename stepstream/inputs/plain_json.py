"""The plain JSON form: an object with a number for each field, or an array for each of a batch."""

from __future__ import annotations

import math
from itertools import chain, starmap
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import astuple

from stepstream.inputs.columns import FIELDS, MAX_MESSAGE_BYTES, MAX_READINGS, Columns, Opened
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.explain_json import explain_json
from stepstream.inputs.validation import check_device_id, check_size, validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.columns import Decoded, Messages, ReadHeaders
    from stepstream.inputs.native_json import NativeJson
    from stepstream.inputs.validation import Units

    Readings = tuple[NDArray[np.intp], NDArray[np.float64]]
    """Row of each reading's message, and columns, one for each of `FIELDS`."""

__all__ = ["PlainJson"]

_COLUMNS_OF_BATCH = {4: FIELDS[:4], 7: FIELDS}
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


class PlainJson:
    """Decodes the plain JSON form.

    Parameters
    ----------
    units
        The units of its numbers.
    native
        Decodes the usual messages, which is faster.
    """

    def __init__(self, units: Units, native: NativeJson | None = None) -> None:
        self._units = units
        self._native = native
        self.schemas = None
        """See `InputFormat.schemas`."""

    def open(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: ReadHeaders,  # noqa: ARG002 - part of the protocol
    ) -> Opened:
        """See `InputFormat.open`: the keys are the device ids."""
        return Opened(keys, values, {})

    def decode(self, messages: Messages) -> Decoded:
        """See `InputFormat.decode`."""
        values, device_ids = messages.values, messages.device_ids
        invalid: dict[int, InvalidMessage] = {}
        found = Columns.none()
        rows: Sequence[int] = range(len(values))
        if self._native is not None:
            read = self._native.decode(values, device_ids)
            found, rows = read.columns, read.others
            if rows and len(rows) < len(values):
                values = [values[row] for row in rows]
                device_ids = [device_ids[row] for row in rows]
        if rows:
            readings = _decode_singles(values, device_ids, rows) or _decode_each(
                values, device_ids, rows, invalid
            )
            found = Columns.merge([found, Columns(*readings, None)])
        return validate(found, messages, self._units, invalid)


def _decode_singles(
    values: Sequence[bytes | None], device_ids: Sequence[str], rows: Sequence[int]
) -> Readings | None:
    """The readings, if all messages are valid single ones, which is the common case."""
    try:
        readings = list(map(_decode_reading, values))  # type: ignore[arg-type]
    except _NOT_AS_EXPECTED:
        return None
    claimed = [reading.device_id for reading in readings]
    if claimed != list(device_ids) and claimed.count(None) < len(claimed):
        return None
    if max(map(len, values), default=0) > MAX_MESSAGE_BYTES:  # type: ignore[arg-type]
        return None
    return np.array(rows, np.intp), _single_columns(readings)


def _decode_each(
    values: Sequence[bytes | None],
    device_ids: Sequence[str],
    rows: Sequence[int],
    invalid: dict[int, InvalidMessage],
) -> Readings:
    """Decode messages in both forms, one by one."""
    single_rows: list[int] = []
    readings: list[_Reading] = []
    batch_rows: list[int] = []
    batches: list[list[bytes]] = []
    for row, value, device_id in zip(rows, values, device_ids, strict=True):
        try:
            try:
                reading = _decode_reading(value)  # type: ignore[arg-type]
            except _NOT_AS_EXPECTED:
                batches.append(_decode_batch(value, device_id))
                batch_rows.append(row)
            else:
                check_device_id(reading.device_id, device_id)
                check_size(value)  # type: ignore[arg-type]
                single_rows.append(row)
                readings.append(reading)
        except InvalidMessage as error:
            invalid[row] = error.without_traceback()
    message, columns = np.array(single_rows, np.intp), _single_columns(readings)
    if batches:
        return _merge(message, columns, np.array(batch_rows, np.intp), batches)
    return message, columns


def _single_columns(readings: list[_Reading]) -> NDArray[np.float64]:
    """One row for each of `FIELDS`."""
    packed = b"".join(starmap(_pack_numbers, map(astuple, readings)))
    return np.frombuffer(packed, _NUMBERS)["numbers"].T[_PLACES]


def _merge(
    message: NDArray[np.intp],
    columns: NDArray[np.float64],
    batch_rows: NDArray[np.intp],
    batches: list[list[bytes]],
) -> Readings:
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
    check_size(value)
    try:
        batch = _decode_lists(value)
    except _NOT_AS_EXPECTED as error:
        raise explain_json(value, error) from None
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
    check_device_id(batch.device_id, device_id)
    pack = Struct(f"={size}d").pack
    columns = [pack(*column) for column in given]
    return columns + [bytes(8 * size)] * (len(FIELDS) - len(columns))
