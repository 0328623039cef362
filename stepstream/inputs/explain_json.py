"""Why a JSON message can't be decoded: slow and thorough, for the few that can't."""

from __future__ import annotations

import json
import math
from typing import Any

from stepstream.inputs.columns import ACCELEROMETER, FIELDS
from stepstream.inputs.errors import ErrorCode, InvalidMessage

__all__ = ["explain_json"]


def explain_json(value: bytes, error: Exception) -> InvalidMessage:
    """Why a message is in neither form of the plain JSON.

    Parameters
    ----------
    value
        The message's value.
    error
        What the decoder said of it; used where nothing better is found.
    """
    try:
        # Unlike strict JSON, this accepts NaN and Infinity, which some senders write.
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
    given = {name: content[name] for name in FIELDS if name in content}
    return _explain_fields(given) or InvalidMessage(ErrorCode.INVALID_JSON, _first_line(error))


def _explain_fields(given: dict[str, Any]) -> InvalidMessage | None:
    """What is wrong with the fields of an object that has an acceleration, if anything is."""
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
    return None


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0][:200]
