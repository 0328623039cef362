"""One device's recent signal, steps, minutes and walks, while somebody watches it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stepstream.outputs import read_value
from stepstream.web.activity import open_activity
from stepstream.web.page import ALIVE_INTERVAL_S, make_event

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from stepstream.outputs import OutputRecord
    from stepstream.settings import OutputKind, TopicSettings
    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.outbox import Results

__all__ = ["Watch", "Watches"]

INTERVAL_S = 0.2
MAX_PARTS = 500
"""Polls whose samples may wait to be sent."""
MAX_RECORDS = 100
"""Of each kind that may wait."""


class Watch:
    """Gathers the samples and records of one device; `observe` runs in the consumer's loop.

    Parameters
    ----------
    topics
        Where the records are published.
    consumer
        The consumer that reads the device.
    device_id
        The device.
    topic
        Its readings topic; None for the first that has it.
    """

    def __init__(
        self, topics: TopicSettings, consumer: Consumer, device_id: str, topic: str | None
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._device_id = device_id
        self._key = device_id.encode("utf-8", "replace")
        self._last_sample = -1
        self._parts: deque[tuple[int, NDArray[np.float64]]] = deque(maxlen=MAX_PARTS)
        self._kinds = {topic: kind for kind, topic in topics.outputs.items() if kind != "count"}
        self._records: dict[OutputKind, deque[OutputRecord]] = {
            kind: deque(maxlen=MAX_RECORDS) for kind in ("step", "minute", "walk")
        }
        self._open: dict[str, Any] = {}
        self._sent_open = self._open

    def observe(self, results: Iterable[Results]) -> None:
        """Copy the samples that a poll added, and the device's records."""
        for one in results:
            partition = one.partition
            slot = partition.slots.get(self._key)
            is_known = slot is not None or partition.ledger.get(self._device_id)
            if not is_known or self._topic not in {None, partition.topic}:
                continue
            self._topic = partition.topic
            if slot is not None:
                self._copy(slot)
            for record in one.records:
                if record.key == self._key and record.topic in self._kinds:
                    self._records[self._kinds[record.topic]].append(record)
            if slot is not None or partition.ledger.activities.get(self._device_id):
                model = self._consumer.model.metadata.label
                self._open = open_activity(partition, self._device_id, model)

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
        values: dict[str, list[Any]] = {}
        for kind, waiting in self._records.items():
            records = [waiting.popleft() for _ in range(len(waiting))]
            values[f"{kind}s"] = [read_value(kind, r.value or b"", r.headers) for r in records]
        values["steps"] = [
            [event["started_at"], event["ended_at"], event["step_count"]]
            for event in values["steps"]
        ]
        is_open_as_sent = self._open == self._sent_open
        if not parts and not any(values.values()) and is_open_as_sent:
            return None
        self._sent_open = self._open
        return {"period": period_us / 1e6, "parts": parts, **values, **self._open}


class Watches:
    """Streams of the signals of a consumer's devices.

    Parameters
    ----------
    topics
        Where the records are published.
    consumer
        Whose devices can be watched.
    """

    def __init__(self, topics: TopicSettings, consumer: Consumer) -> None:
        self._topics = topics
        self._consumer = consumer

    async def follow(
        self, device_id: str, topic: str | None, is_closing: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        """See `stepstream.web.page.Signals`."""
        watch = Watch(self._topics, self._consumer, device_id, topic)
        quiet_s = ALIVE_INTERVAL_S
        with self._observing(watch):
            # From here on nothing is missed; what was before has to be read.
            yield make_event("follows", {})
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
