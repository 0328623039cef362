"""One device's recent signal and steps, while somebody watches it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.outputs import Event
from stepstream.web.page import ALIVE_INTERVAL_S, make_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.outbox import Results

__all__ = ["Watch", "Watches"]

INTERVAL_S = 0.2
MAX_PARTS = 500
"""Polls whose samples may wait to be sent."""
MAX_EVENTS = 100

_decode_event = msgspec.json.Decoder(Event).decode


class Watch:
    """Gathers the samples and events of one device; `observe` runs in the consumer's loop.

    Parameters
    ----------
    consumer
        The consumer that reads the device.
    device_id
        The device.
    """

    def __init__(self, consumer: Consumer, device_id: str) -> None:
        self._consumer = consumer
        self._key = device_id.encode("utf-8", "replace")
        self._topic = consumer.processor.events_topic
        self._last_sample = -1
        self._parts: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=MAX_PARTS)
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)

    def observe(self, results: Iterable[Results]) -> None:
        """Copy the samples that a poll added, and the device's events."""
        for one in results:
            slot = one.partition.slots.get(self._key)
            if slot is not None:
                self._copy(slot)
            self._events.extend(
                record.value or b""
                for record in one.records
                if record.topic == self._topic and record.key == self._key
            )

    def _copy(self, slot: int) -> None:
        """Samples since the last call; samples that were overwritten in the meantime are lost."""
        added = self._consumer.processor.detector.magnitudes(slot, self._last_sample)
        if added is not None:
            first, magnitudes = added
            self._parts.append(added)
            self._last_sample = first + len(magnitudes) - 1

    def take(self) -> dict[str, Any] | None:
        """What was gathered since the last time, as the page draws it; None if nothing."""
        period_us = self._consumer.model.metadata.period_us
        parts = []
        while self._parts:
            first, magnitudes = self._parts.popleft()
            accel, gyro = magnitudes.round(2).T.tolist()
            parts.append({"at": first * period_us / 1e6, "accel": accel, "gyro": gyro})
        steps = []
        while self._events:
            event = _decode_event(self._events.popleft())
            steps.append([event.started_at, event.ended_at, event.step_count])
        if not parts and not steps:
            return None
        return {"period": period_us / 1e6, "parts": parts, "steps": steps}


class Watches:
    """Streams of the signals of a consumer's devices.

    Parameters
    ----------
    consumer
        Whose devices can be watched.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def follow(
        self, device_id: str, is_closing: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        """See `stepstream.web.page.Signals`."""
        watch = Watch(self._consumer, device_id)
        quiet_s = ALIVE_INTERVAL_S
        with self._observing(watch):
            while not is_closing():
                gathered = watch.take()
                if gathered is not None:
                    quiet_s = 0.0
                    yield make_event("signal", gathered)
                elif quiet_s >= ALIVE_INTERVAL_S:
                    quiet_s = 0.0
                    yield make_event("alive", {})
                await asyncio.sleep(INTERVAL_S)
                quiet_s += INTERVAL_S

    @contextmanager
    def _observing(self, watch: Watch) -> Iterator[None]:
        consumer = self._consumer
        consumer.watchers = (*consumer.watchers, watch.observe)
        try:
            yield
        finally:
            consumer.watchers = tuple(w for w in consumer.watchers if w != watch.observe)
