"""One device's recent signal and steps, while somebody watches it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stepstream.detection.windows import NO_TIME
from stepstream.outputs import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.processor import Outputs

__all__ = ["Watch"]

MAX_PARTS = 500
"""Polls whose samples may wait to be sent."""
MAX_EVENTS = 100
MAGNITUDE = 6
"""Channel of the acceleration's magnitude; that of the angular velocity follows it."""

_decode_event = msgspec.json.Decoder(Event).decode


class Watch:
    """Gathers what becomes of one device's readings; `observe` runs in the consumer's loop.

    Parameters
    ----------
    consumer
        Who reads the device.
    device_id
        The device.
    """

    def __init__(self, consumer: Consumer, device_id: str) -> None:
        self._consumer = consumer
        self._key = device_id.encode("utf-8", "replace")
        self._last_sample = -1
        self._parts: deque[tuple[int, NDArray[np.float32]]] = deque(maxlen=MAX_PARTS)
        self._events: deque[bytes] = deque(maxlen=MAX_EVENTS)

    def observe(self, results: Iterable[tuple[Partition, Outputs]]) -> None:
        """Copy the samples that a poll added, and the device's events."""
        for partition, outputs in results:
            slot = partition.slots.get(self._key)
            if slot is not None:
                self._copy(slot)
            self._events.extend(value for key, value in outputs.events if key == self._key)

    def _copy(self, slot: int) -> None:
        """Samples since the last look; those that were overwritten meanwhile are gone."""
        windows, metadata = self._consumer.processor.detector.windows, self._consumer.model.metadata
        last_us = int(windows.last_us[slot])
        if last_us == NO_TIME:
            return
        last = last_us // metadata.period_us
        kept = (last // metadata.hop - windows.sample_blocks + 1) * metadata.hop
        begin = max(kept, int(windows.first_sample[slot]))
        if begin <= self._last_sample <= last:
            begin = self._last_sample + 1
        if begin > last:
            return
        index = np.arange(begin, last + 1)
        block, within = index // metadata.hop % windows.sample_blocks, index % metadata.hop
        samples = windows.samples[slot, block, within, MAGNITUDE : MAGNITUDE + 2]
        self._parts.append((begin, samples))
        self._last_sample = last

    def take(self) -> dict[str, Any] | None:
        """What was gathered since the last time, as the page draws it; None if nothing."""
        metadata = self._consumer.model.metadata
        scale = np.array([metadata.accel_scale, metadata.gyro_scale])
        parts = []
        while self._parts:
            begin, samples = self._parts.popleft()
            accel, gyro = (samples * scale).round(2).T.tolist()
            parts.append({"at": begin * metadata.period_us / 1e6, "accel": accel, "gyro": gyro})
        steps = []
        while self._events:
            event = _decode_event(self._events.popleft())
            steps.append([event.started_at, event.ended_at, event.step_count])
        if not parts and not steps:
            return None
        return {"period": metadata.period_us / 1e6, "parts": parts, "steps": steps}
