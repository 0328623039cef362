"""What requests for steps have: their messages, readings and answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stepstream.detection.series import Series
from stepstream.inputs import (
    MAX_DEVICE_ID_BYTES,
    MAX_READINGS,
    ErrorCode,
    InvalidMessage,
)
from stepstream.outputs import Event  # noqa: TC001 - msgspec reads annotations
from stepstream.web.bodies import TooLarge

if TYPE_CHECKING:
    import asyncio

    from stepstream.detection import Rules
    from stepstream.inputs import Decoded

__all__ = ["MAX_TOTAL_READINGS", "UNNAMED", "Found", "Job", "read_device_id", "split_messages"]

MAX_TOTAL_READINGS = 100_000
MAX_SIGNAL_S = 3_600.0
"""Few readings far apart are a long signal, and its length is what the network costs."""
UNNAMED = "device"
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises, the last two for text that is not UTF-8 and for deep nesting."""

_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Named(msgspec.Struct):
    device_id: str | None = None


_decode_name = msgspec.json.Decoder(_Named).decode


class Found(msgspec.Struct, frozen=True):
    """The answer.

    Attributes
    ----------
    device_id
        As the readings name it.
    model
        Name and version of the network.
    readings
        How many were given.
    steps
        Like events, without an id.
    """

    device_id: str
    model: str
    readings: int
    steps: list[Event]


class Job:
    """Readings of one device that somebody waits for the steps of.

    Parameters
    ----------
    body
        As it came.
    name
        The header that names the device, if one does.
    now_us
        When it came, microseconds since the epoch: the time of readings without one.
    answer
        Where the steps go, or why there are none.
    """

    def __init__(
        self, body: bytes, name: str | None, now_us: int, answer: asyncio.Future[Found]
    ) -> None:
        self.body = body
        self.name = name
        self.now_us = now_us
        self.device_id = UNNAMED
        self.messages: list[bytes] = []
        """Messages of the body, once they were looked for."""
        self.decoded = 0
        """How many of them are decoded."""
        self._answer = answer
        self._readings = 0
        self._parts: list[Decoded] = []

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._answer.done()

    @property
    def is_decoded(self) -> bool:
        """Whether all of its messages are."""
        return 0 < len(self.messages) == self.decoded

    def add(self, part: Decoded, decoded: int) -> None:
        """Take what the messages before a row gave that weren't decoded yet.

        Raises
        ------
        TooLarge
            It has too many readings.
        """
        self.decoded = decoded
        self._parts.append(part)
        self._readings += len(part.time_us)
        if self._readings > MAX_TOTAL_READINGS:
            raise TooLarge(
                f"over {MAX_TOTAL_READINGS} readings, which is the most that are computed"
            )

    def series(self, rules: Rules) -> Series:
        """All of its readings.

        Raises
        ------
        TooLarge
            The signal between them would take too long. Gaps are no signal.
        """
        parts, self._parts = self._parts, []
        time_us = np.concatenate([part.time_us for part in parts])
        apart_us = np.diff(np.sort(time_us))
        signal_s = apart_us[apart_us <= rules.max_gap_us].sum() / 1e6
        if signal_s > MAX_SIGNAL_S:
            raise TooLarge(f"{signal_s:.0f} s of signal, at most {MAX_SIGNAL_S:.0f} s are computed")
        bits = [part.sensors for part in parts if part.sensors is not None]
        return Series(
            time_us,
            np.concatenate([part.axes for part in parts]),
            np.concatenate(bits) if bits else None,
        )

    def finish(self, model: str, steps: list[Event]) -> None:
        """Answer with steps."""
        if not self._answer.done():
            self._answer.set_result(Found(self.device_id, model, self._readings, steps))

    def fail(self, error: Exception) -> None:
        """Answer with what is wrong."""
        if not self._answer.done():
            self._answer.set_exception(error)


def split_messages(body: bytes) -> list[bytes]:
    """The messages of a body in the plain form: one, or an array of them.

    Raises
    ------
    InvalidMessage
        It is an array, and no JSON, or of too many messages or none.
    """
    if not body.lstrip().startswith(b"["):
        return [body]
    try:
        messages = [bytes(raw) for raw in _split(body)]
    except NOT_JSON as error:
        raise InvalidMessage(ErrorCode.INVALID_JSON, str(error)) from None
    if not 0 < len(messages) <= MAX_READINGS:
        raise InvalidMessage(
            ErrorCode.TOO_MANY_READINGS, f"{len(messages)} messages, 1 to {MAX_READINGS} expected"
        )
    return messages


def read_device_id(message: bytes) -> str:
    """The device of the first message, which must be the device of all messages.

    Raises
    ------
    InvalidMessage
        The id is empty or too long.
    """
    try:
        device_id = _decode_name(message).device_id
    except NOT_JSON:
        # The format says what is wrong.
        return UNNAMED
    if device_id is None:
        return UNNAMED
    if not 0 < len(device_id.encode()) <= MAX_DEVICE_ID_BYTES:
        raise InvalidMessage(
            ErrorCode.INVALID_DEVICE_ID, f"1 to {MAX_DEVICE_ID_BYTES} bytes are expected"
        )
    return device_id
