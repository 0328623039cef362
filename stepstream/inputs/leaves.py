"""Numbers and times from what a parser gives for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.paths import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Values = Sequence[Any] | NDArray[Any]
    Convert = Callable[[Values], NDArray[np.float64]]

__all__ = ["Leaf", "read_numbers", "read_times", "to_numbers"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_TIME = 1e200
_SHOWN = 40
"""Most characters of a wrong value that a dead letter quotes."""


class Leaf(NamedTuple):
    """One field of many objects.

    Attributes
    ----------
    numbers : (n,) float64
        The numbers of all objects.
    lengths : (m,) intp, or None
        How many each of the m objects has; None if each has one that stands alone, not in a list.
    """

    numbers: NDArray[np.float64]
    lengths: NDArray[np.intp] | None


def read_numbers(values: Values, path: object, convert: Convert) -> Leaf:
    """The numbers that objects have at a path: one each, or a list or an array each.

    Parameters
    ----------
    values
        What each object has there.
    path
        The path, for the message of an error.
    convert
        Makes numbers of values that stand alone or in lists.

    Raises
    ------
    InvalidMessage
        Something else is there, in one object at least, or a number is not finite.
    """
    lengths = None
    try:
        if isinstance(values, np.ndarray):
            numbers = convert(values)
        else:
            kinds = set(map(type, values))
            if kinds == {list}:
                lengths = np.fromiter(map(len, values), np.intp, len(values))
                numbers = convert(list(chain.from_iterable(values)))
            elif kinds == {np.ndarray}:
                numbers = convert(_join(values))
                lengths = np.fromiter(map(len, values), np.intp, len(values))
            else:
                numbers = convert(values)
    except InvalidMessage as error:
        is_missing = error.code == ErrorCode.MISSING_FIELD
        detail = f"{path} {error.detail}" if is_missing else f"{path}: {error.detail}"
        raise InvalidMessage(error.code, detail) from None
    if not np.isfinite(numbers).all():
        wrong = numbers[~np.isfinite(numbers)][0]
        raise InvalidMessage(ErrorCode.NOT_FINITE, f"{path} is {wrong}")
    return Leaf(numbers, lengths)


def _join(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    try:
        return np.concatenate(arrays)
    except (TypeError, ValueError):
        raise InvalidMessage(ErrorCode.WRONG_TYPE, "arrays of different types") from None


def to_numbers(values: Values, *, strings: bool) -> NDArray[np.float64]:
    """Numbers as floats.

    Parameters
    ----------
    values
        Numbers, of Python or NumPy.
    strings
        Whether they may be text.

    Raises
    ------
    InvalidMessage
        Something else is among them.
    """
    if isinstance(values, np.ndarray):
        if values.ndim == 1 and values.dtype.kind in "iuf":
            with np.errstate(invalid="ignore"):  # a NaN that signals
                return values.astype(np.float64)
        values = values.tolist()
    kinds = set(map(type, values))
    if not kinds <= {float, int}:
        if strings and str in kinds:
            values = [_parse(one) if isinstance(one, str) else one for one in values]
        for kind in set(map(type, values)):
            if kind is bool or not issubclass(kind, int | float | np.integer | np.floating):
                wrong = next(one for one in values if type(one) is kind)
                raise _wrong_type(wrong, "a number")
    try:
        return np.fromiter(values, np.float64, len(values))
    except OverflowError:
        raise InvalidMessage(ErrorCode.OUT_OF_RANGE, "a number of over 300 digits") from None


def read_times(values: Values, *, iso: bool, unit_us: float, strings: bool) -> NDArray[np.float64]:
    """Times in microseconds since the epoch.

    Parameters
    ----------
    values
        Numbers, or text in ISO 8601; both may be a date and time as a parser makes it.
    iso
        Whether they are text.
    unit_us
        Their unit if they are numbers.
    strings
        Whether the numbers may be text.

    Raises
    ------
    InvalidMessage
        Something else is among them.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        values = values.astype("datetime64[us]").tolist()
    if iso or datetime in set(map(type, values)):
        return np.array([_instant_us(one, iso=iso) for one in values], np.float64)
    numbers = to_numbers(values, strings=strings)
    if (np.abs(numbers) > _MOST_TIME).any() and np.isfinite(numbers).all():
        raise InvalidMessage(ErrorCode.OUT_OF_RANGE, f"a time of {np.abs(numbers).max():.0e}")
    return numbers * unit_us


def _parse(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong_type(text, "a number") from None


def _instant_us(value: Any, *, iso: bool) -> float:
    try:
        when = datetime.fromisoformat(value) if iso and isinstance(value, str) else value
        if isinstance(when, datetime):
            return ((when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH) / _MICROSECOND
    except (ValueError, OverflowError):
        pass  # what it says is not a time
    raise _wrong_type(value, "a time in ISO 8601" if iso else "a number")


def _wrong_type(value: Any, expected: str) -> InvalidMessage:
    if value is MISSING or value is None:
        return InvalidMessage(ErrorCode.MISSING_FIELD, "is missing")
    shown = f" {value[:_SHOWN]!r}" if isinstance(value, str) else ""
    kind = _NAMES.get(type(value), "another type")
    return InvalidMessage(ErrorCode.WRONG_TYPE, f"expected {expected}, got {kind}{shown}")


_NAMES: dict[type, str] = {
    dict: "an object",
    list: "a list",
    str: "text",
    bool: "a boolean",
    bytes: "bytes",
    int: "an integer",
    float: "a number",
    np.ndarray: "a list",
    datetime: "a time",
}
