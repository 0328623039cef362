"""The live page, and the stream of its data."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from starlette.responses import HTMLResponse, Response, StreamingResponse

from stepstream.web.answers import answer, read_page, refuse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.requests import Request

__all__ = ["ALIVE_INTERVAL_S", "Page", "Samples", "Signals", "make_event"]

MAX_STREAMS = 20
"""Streams to open pages; each page that can be seen has one."""
ALIVE_INTERVAL_S = 2.0
"""A stream without data sends a sign of life after this time."""
CLOSE_CHECK_S = 0.5
MAX_WAITING = 8
"""Events of a page that may wait until the one before is written."""
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

    def follow(
        self, device_id: str, topic: str | None, is_closing: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        """A stream of events about one device of a readings topic, until `is_closing`.

        If no topic is named, it is about one of the devices with this id.
        """


class Page:
    """The page and its stream of server-sent events.

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

    async def stream(self, request: Request) -> Response:
        """All that a page shows as it comes: samples, and the signal of a device if it names one.

        First come the samples of the last minutes, or those since a time that the page names.
        """
        given = request.query_params
        device_id = given.get("device")
        if device_id is not None and not _is_device_id(device_id):
            return _refuse_id()
        try:
            since_s = float(given.get("since", -inf))
        except ValueError:
            return refuse(400, "invalid-time", "since is in seconds since the epoch")
        events = [self._follow_samples(since_s)]
        if device_id is not None:
            events.append(self._follow_device(device_id, given.get("topic")))
        return self._stream(_merge(events))

    async def signal(self, request: Request) -> Response:
        """The signal and steps of a device alone, for the parent of workers."""
        device_id = request.query_params.get("device", "")
        if not _is_device_id(device_id):
            return _refuse_id()
        topic = request.query_params.get("topic")
        return self._stream(self._follow_device(device_id, topic))

    def _follow_device(self, device_id: str, topic: str | None) -> AsyncGenerator[bytes, None]:
        return self._signals.follow(device_id, topic, lambda: self._is_closing)

    def _stream(self, events: AsyncGenerator[bytes, None]) -> Response:
        if self._streams >= MAX_STREAMS:
            detail = f"{MAX_STREAMS} pages are open, which is the limit; close one of them"
            return refuse(503, "busy", detail, {"retry-after": "10"})
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

    async def _follow_samples(self, since_s: float) -> AsyncGenerator[bytes, None]:
        samples = self._samples
        history = list(samples.history)
        later = [sample for sample in history if sample["time"] > since_s]
        state = samples.state
        yield make_event("history", {"samples": later, "state": state})
        last = history[-1] if history else None
        while not self._is_closing:
            # A sample may come at the moment of the timeout, so the timeout itself says nothing.
            with suppress(TimeoutError):
                await asyncio.wait_for(samples.taken.wait(), CLOSE_CHECK_S)
            if samples.state is not state:
                state = samples.state
                newest = samples.history[-1] if samples.history else None
                # If no worker answers, there is a state, and no sample.
                sample = None if newest is last else newest
                last = newest
                yield make_event("sample", {"sample": sample, "state": state})


def _is_device_id(text: str) -> bool:
    return 0 < len(text.encode("utf-8", "replace")) <= MAX_DEVICE_ID_BYTES


def _refuse_id() -> Response:
    return refuse(400, "invalid-device-id", "name one: ?device=...")


async def _merge(streams: Sequence[AsyncGenerator[bytes, None]]) -> AsyncGenerator[bytes, None]:
    """The events of several streams as they come, until one of them ends."""
    events: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(MAX_WAITING)

    async def pass_on(stream: AsyncGenerator[bytes, None]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    await events.put(event)
            await events.put(None)
        except Exception as error:  # noqa: BLE001 - raised again where it is read
            await events.put(error)

    tasks = [asyncio.create_task(pass_on(stream)) for stream in streams]
    try:
        while event := await events.get():
            if isinstance(event, Exception):
                raise event
            yield event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def make_event(name: str, data: Any) -> bytes:
    """A server-sent event."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))
