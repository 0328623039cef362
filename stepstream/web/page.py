"""The live page, and the streams of its data."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager, suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import HTMLResponse, Response, StreamingResponse

from stepstream.inputs import MAX_DEVICE_ID_BYTES
from stepstream.web.answers import refuse
from stepstream.web.watching import Watch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from starlette.requests import Request

    from stepstream.streaming.consumer import Consumer
    from stepstream.web.sampling import Sampler

__all__ = ["Page", "read_page"]

MAX_STREAMS = 20
"""Streams to open pages; each page has one or two."""
SIGNAL_INTERVAL_S = 0.2
ALIVE_INTERVAL_S = 2.0
"""A stream without data sends a sign of life after this time."""
CLOSE_CHECK_S = 0.5

_encode = msgspec.json.Encoder().encode


def read_page(name: str) -> str:
    """A page of the package."""
    return (files("stepstream.web") / "static" / name).read_text(encoding="utf-8")


class Page:
    """The page and its streams of server-sent events.

    Parameters
    ----------
    consumer
        Whose devices can be watched.
    sampler
        Has the figures.
    """

    def __init__(self, consumer: Consumer, sampler: Sampler) -> None:
        self._consumer = consumer
        self._sampler = sampler
        self._streams = 0
        self._is_closing = False

    def close(self) -> None:
        """End all streams soon; from another thread."""
        self._is_closing = True

    async def show(self, _request: Request) -> Response:
        """The page itself."""
        return HTMLResponse(read_page("performance.html"))

    async def samples(self, _request: Request) -> Response:
        """A stream of samples: first those of the last minutes, then one a second."""
        return self._stream(self._samples())

    async def signal(self, request: Request) -> Response:
        """A stream of one device's signal and steps."""
        device_id = request.query_params.get("device", "")
        if not 0 < len(device_id.encode("utf-8", "replace")) <= MAX_DEVICE_ID_BYTES:
            return refuse(400, "invalid-device-id", "name one: ?device=...")
        return self._stream(self._signal(Watch(self._consumer, device_id)))

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

    async def _samples(self) -> AsyncGenerator[bytes, None]:
        sampler = self._sampler
        history = list(sampler.history)
        yield _event("history", {"samples": history, "state": sampler.state})
        last = history[-1] if history else None
        while not self._is_closing:
            # A sample may come at the moment of the timeout, so the timeout itself says nothing.
            with suppress(TimeoutError):
                await asyncio.wait_for(sampler.taken.wait(), CLOSE_CHECK_S)
            if sampler.history and sampler.history[-1] is not last:
                last = sampler.history[-1]
                yield _event("sample", {"sample": last, "state": sampler.state})

    async def _signal(self, watch: Watch) -> AsyncGenerator[bytes, None]:
        quiet_s = ALIVE_INTERVAL_S
        with self._observing(watch):
            while not self._is_closing:
                gathered = watch.take()
                if gathered is not None:
                    quiet_s = 0.0
                    yield _event("signal", gathered)
                elif quiet_s >= ALIVE_INTERVAL_S:
                    quiet_s = 0.0
                    yield _event("alive", {})
                await asyncio.sleep(SIGNAL_INTERVAL_S)
                quiet_s += SIGNAL_INTERVAL_S

    @contextmanager
    def _observing(self, watch: Watch) -> Iterator[None]:
        consumer = self._consumer
        consumer.watchers = (*consumer.watchers, watch.observe)
        try:
            yield
        finally:
            consumer.watchers = tuple(w for w in consumer.watchers if w != watch.observe)


def _event(name: str, data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode(data))
