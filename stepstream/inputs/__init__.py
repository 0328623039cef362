"""Readings in: from messages to columns, a module for each format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.inputs.columns import (
    ACCELEROMETER,
    GYROSCOPE,
    MAX_MESSAGE_BYTES,
    MAX_READINGS,
    Decoded,
    InputFormat,
    Messages,
)
from stepstream.inputs.device_ids import MAX_DEVICE_ID_BYTES, decode_device_id
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.plain_json import PlainJson
from stepstream.inputs.validation import MAX_ACCELERATION, MAX_ANGULAR_VELOCITY, Units

if TYPE_CHECKING:
    from stepstream.settings import ProcessingSettings

__all__ = [
    "ACCELEROMETER",
    "GYROSCOPE",
    "MAX_ACCELERATION",
    "MAX_ANGULAR_VELOCITY",
    "MAX_DEVICE_ID_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_READINGS",
    "Decoded",
    "ErrorCode",
    "InputFormat",
    "InvalidMessage",
    "Messages",
    "decode_device_id",
    "make_format",
]


def make_format(settings: ProcessingSettings) -> InputFormat:
    """The format of the readings topics' messages."""
    return PlainJson(Units.of(settings))
