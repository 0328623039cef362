"""Steps of readings that come over HTTP, to try the model and for small integrations."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stepstream.detection import Model, Rules, default_model_path, detect_series
from stepstream.inputs import (
    MAX_DEVICE_ID_BYTES,
    MAX_READINGS,
    ErrorCode,
    InvalidMessage,
    Messages,
    RegistryAwayError,
    decode_device_id,
    fetch_lacking,
    is_plain,
    make_format,
)
from stepstream.inputs.layout import Layout
from stepstream.streaming.counting import count_steps
from stepstream.web.answers import answer, refuse
from stepstream.web.bodies import (
    Bodies,
    TooBusy,
    TooLarge,
    WrongType,
    check_type,
    while_connected,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.outputs import Event
    from stepstream.settings import Settings
    from stepstream.web.traffic import Traffic

__all__ = ["MAX_BODY_BYTES", "Detection"]

MAX_BODY_BYTES = 4 << 20
MAX_WAITING = 4
"""Requests that may wait while one is computed; further ones are refused with `Retry-After`."""
TIMEOUT_S = 10.0
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


class _GivenUp(Exception):  # noqa: N818 - what ends work that nobody waits for
    """The answer isn't wanted any more."""


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


class Detection:
    """Detects steps in a thread of its own, one request after the other, with a model of its own.

    Parameters
    ----------
    settings
        The model, and the readings' units and rules.
    traffic
        Counts the requests that are computed or wait for that.
    """

    def __init__(self, settings: Settings, traffic: Traffic) -> None:
        self._traffic = traffic
        self._bodies = Bodies(MAX_BODY_BYTES)
        self._settings = settings
        # There are no keys here.
        written = settings.input.with_changes({"key": "text"})
        self._format = make_format(written, settings.registry)
        self._is_plain = is_plain(written)
        self._header = Layout.of(written).device_id_header
        self._max_ahead_us = round(settings.processing.max_ahead_s * 1e6)
        self._model: Model | None = None
        self._worker = ThreadPoolExecutor(1, "detect")

    def close(self) -> None:
        """Accept no more requests."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def detect(self, request: Request) -> Response:
        """Answer a request: find the steps in readings of one device."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                check_type(request)
                body = await self._bodies.read(request)
                if self._traffic.detecting > MAX_WAITING:
                    return _later("other requests are being computed")
                name = request.headers.get(self._header) if self._header else None
                return answer(await while_connected(request, self._compute(body, name)))
        except WrongType as error:
            return refuse(415, "media-type", str(error), {"accept-encoding": "identity"})
        except TooLarge as error:
            return refuse(413, ErrorCode.TOO_LARGE, str(error))
        except InvalidMessage as error:
            return refuse(422, error.code, error.detail)
        except TooBusy as error:
            return _later(str(error))
        except RegistryAwayError as error:
            return _later(f"the schema registry is away: {error}")
        except TimeoutError:
            return _later(f"not done within {TIMEOUT_S:.0f} s")

    async def _compute(self, body: bytes, name: str | None) -> Found:
        """Compute when it is this request's turn; end it when nobody waits for it."""
        is_given_up = Flag()
        self._traffic.detecting += 1
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._worker, self._find, body, name, is_given_up)
        finally:
            is_given_up.set()
            self._traffic.detecting -= 1

    def _find(self, body: bytes, name: str | None, is_given_up: Flag) -> Found:
        messages = _messages(body) if self._is_plain else [body]
        fetch_lacking(self._format.schemas, messages)
        now_us = time.time_ns() // 1000
        device_id, contents = self._open(messages, name)
        decoded = self._format.decode(
            Messages(
                contents,
                [device_id] * len(messages),
                np.full(len(messages), now_us // 1000, np.int64),
                now_us + self._max_ahead_us,
            )
        )
        for row, error in sorted(decoded.invalid.items()):
            where = f"message {row}: " if len(messages) > 1 else ""
            raise InvalidMessage(error.code, where + error.detail)
        settings = self._settings
        rules = Rules.of(settings.processing)
        _check_size(decoded.time_us, rules)
        if self._model is None:
            self._model = Model(settings.model.path or default_model_path())

        def stop(*_: Any) -> None:
            if is_given_up.is_set():
                raise _GivenUp

        stop()
        steps = detect_series(
            self._model,
            decoded.time_us,
            decoded.axes,
            rules,
            sensors=decoded.sensors,
            on_probabilities=stop,
        )
        _, events = count_steps(device_id, steps, self._model, settings.processing)
        return Found(device_id, self._model.metadata.label, len(decoded.time_us), events)

    def _open(self, messages: list[bytes], name: str | None) -> tuple[str, Sequence[Any]]:
        """The device, and what the format made of the messages."""
        if self._is_plain:
            return _device_id(messages[0]), messages
        headers = [(self._header, name.encode())] if self._header and name else []
        keys, contents, invalid = self._format.open([UNNAMED.encode()], messages, lambda _: headers)
        for error in invalid.values():
            raise error
        return decode_device_id(keys[0]), contents


def _check_size(time_us: NDArray[np.int64], rules: Rules) -> None:
    """Refuse readings that would take too long, before they do.

    Raises
    ------
    TooLarge
        There are too many, or the signal between them is too long. Gaps are no signal.
    """
    if len(time_us) > MAX_TOTAL_READINGS:
        raise TooLarge(f"{len(time_us)} readings, at most {MAX_TOTAL_READINGS} are computed")
    apart_us = np.diff(np.sort(time_us))
    signal_s = apart_us[apart_us <= rules.max_gap_us].sum() / 1e6
    if signal_s > MAX_SIGNAL_S:
        raise TooLarge(f"{signal_s:.0f} s of signal, at most {MAX_SIGNAL_S:.0f} s are computed")


def _messages(body: bytes) -> list[bytes]:
    """The messages of a body: one, or an array of them."""
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


def _device_id(message: bytes) -> str:
    """The device of the first message, which must be the device of all messages."""
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


def _later(detail: str) -> Response:
    return refuse(503, "busy", detail, {"retry-after": "1"})
