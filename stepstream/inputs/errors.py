"""Why a message is invalid."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

__all__ = ["ErrorCode", "InvalidMessage"]


class ErrorCode(StrEnum):
    """Why a message is a dead letter: the value of its ``stepstream-error`` header."""

    INVALID_JSON = "invalid-json"
    INVALID_ENCODING = "invalid-encoding"
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
    """An invalid message, and why it is invalid.

    Attributes
    ----------
    code
        The reason.
    detail
        The reason in words.
    time_us
        With ``TIME_IN_FUTURE``: time of the reading that was refused, microseconds since the
        epoch. It is rounded with halves down, so the reading is later than ``time_us - 0.5``. It
        is at most 2**63 - 1.
    """

    def __init__(self, code: ErrorCode, detail: str, time_us: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.time_us = time_us

    def without_traceback(self) -> Self:
        """The same error, without the traceback, which keeps alive what was being decoded."""
        self.__traceback__ = self.__context__ = None
        return self
