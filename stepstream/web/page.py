"""The live page, and the streams of its data."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from starlette.responses import HTMLResponse, Response, StreamingResponse

from stepstream.web.answers import answer, read_page, refuse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.requests import Request

__all__ = ["ALIVE_INTERVAL_S", "Page", "Samples", "Signals", "make_event"]

MAX_STREAMS = 20
"""Streams to open pages; each page has one or two."""
ALIVE_INTERVAL_S = 2.0
"""A stream without data sends a sign of life after this time."""
CLOSE_CHECK_S = 0.5
MAX_DEVICE_ID_BYTES = 256
"""As `stepstream.inputs` has it, which the parent of workers can do without."""

_encode = msgspec.json.Encoder().encode


class Samples(Protocol):
    """Samples of the last minutes, one a second.

    Attributes
    ----------
    taken
        Set and replaced with each sample.
    """

    taken: asyncio.Event

    @property
    def history(self) -> Sequence[dict[str, Any]]:
        """The samples, the newest last."""

    @property
    def state(self) -> dict[str, Any]:
        """What has no history."""


class Signals(Protocol):
    """Signals of devices."""

    def follow(self, device_id: str, is_closing: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """A stream of events about one device, until `is_closing`."""


class Page:
    """The page and its streams of server-sent events.

    Parameters
    ----------
    samples
        Has the figures.
    signals
        Has what is drawn of a device.
    """

    def __init__(self, samples: Samples, signals: Signals) -> None:
        self._samples = samples
        self._signals = signals
        self._streams = 0
        self._is_closing = False

    def close(self) -> None:
        """End all streams soon; from another thread."""
        self._is_closing = True

    async def show(self, _request: Request) -> Response:
        """The page itself."""
        return HTMLResponse(read_page("performance.html"))

    async def sample(self, _request: Request) -> Response:
        """The last sample, for who asks once a second."""
        history = self._samples.history
        return answer({"sample": history[-1] if history else None, "state": self._samples.state})

    async def samples(self, _request: Request) -> Response:
        """A stream of samples: first those of the last minutes, then one a second."""
        return self._stream(self._follow_samples())

    async def signal(self, request: Request) -> Response:
        """A stream of one device's signal and steps."""
        device_id = request.query_params.get("device", "")
        if not 0 < len(device_id.encode("utf-8", "replace")) <= MAX_DEVICE_ID_BYTES:
            return refuse(400, "invalid-device-id", "name one: ?device=...")
        return self._stream(self._signals.follow(device_id, lambda: self._is_closing))

    def _stream(self, events: AsyncGenerator[bytes, None]) -> Response:
        if self._streams >= MAX_STREAMS:
            return refuse(503, "busy", "too many pages are open", {"retry-after": "10"})
        return StreamingResponse(
            self._counted(events),
            media_type="text/event-stream",
            # Otherwise proxies that buffer answers would delay the events.
            headers={"x-accel-buffering": "no"},
        )

    async def _counted(self, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        self._streams += 1
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        finally:
            self._streams -= 1

    async def _follow_samples(self) -> AsyncGenerator[bytes, None]:
        samples = self._samples
        history = list(samples.history)
        yield make_event("history", {"samples": history, "state": samples.state})
        last = history[-1] if history else None
        while not self._is_closing:
            # A sample may come at the moment of the timeout, so the timeout itself says nothing.
            with suppress(TimeoutError):
                await asyncio.wait_for(samples.taken.wait(), CLOSE_CHECK_S)
            if samples.history and samples.history[-1] is not last:
                last = samples.history[-1]
                yield make_event("sample", {"sample": last, "state": samples.state})


def make_event(name: str, data: Any) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))
