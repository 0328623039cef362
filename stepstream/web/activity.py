"""Minutes and walks of a device: those of its last hour, and those that are not final yet."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from stepstream.errors import StepstreamError
from stepstream.inputs import MAX_DEVICE_ID_BYTES
from stepstream.outputs import MinuteValue, WalkValue
from stepstream.streaming.recent import RecentRecords
from stepstream.web.answers import answer, refuse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.settings import Settings
    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition

__all__ = ["Activity", "open_activity"]

SHOWN_S = 3_600.0
MAX_WAITING = 4
"""Requests that may wait while one is read for; each reads for a few seconds at most."""


def open_activity(partition: Partition, device_id: str, model: str) -> dict[str, Any]:
    """The minute and the walk of a device that are not final, as their records would be now.

    Parameters
    ----------
    partition
        The device's partition.
    device_id
        The device.
    model
        Name and version of the model.
    """
    minute, walk = partition.ledger.activities.open_groups(device_id)
    return {
        "open_minute": minute and MinuteValue.of(partition.topic, partition.number, minute, model),
        "open_walk": walk and WalkValue.of(partition.topic, partition.number, walk, model),
    }


class Activity:
    """Answers with the minutes and walks of a device's last hour, from their topics.

    Nothing of them is kept here: a consumer that has just got the device knows as much as the one
    before it.

    Parameters
    ----------
    settings
        All settings.
    consumer
        Its connections are used; the device may belong to any other.
    """

    def __init__(self, settings: Settings, consumer: Consumer) -> None:
        topics = {"minute": settings.topics.minutes, "walk": settings.topics.walks}
        self._topics = {name: kind for kind, name in topics.items() if name}
        self._recent = RecentRecords(consumer.connections)
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def show(self, request: Request) -> Response:
        """Minutes and walks whose records are of the last hour; null if none are published."""
        device_id = request.query_params.get("device", "")
        try:
            is_wrong = not 0 < len(device_id.encode()) <= MAX_DEVICE_ID_BYTES
        except UnicodeEncodeError:
            is_wrong = True
        if is_wrong:
            return refuse(400, "invalid-device-id", "name one: ?device=...")
        if self._waiting >= MAX_WAITING:
            return refuse(503, "busy", "others are asking, too", {"retry-after": "2"})
        self._waiting += 1
        try:
            async with self._lock:
                return answer(await asyncio.to_thread(self._read, device_id))
        except StepstreamError as error:
            return refuse(503, "unavailable", str(error), {"retry-after": "30"})
        finally:
            self._waiting -= 1

    def _read(self, device_id: str) -> dict[str, Any]:
        now_s = time.time()
        found: dict[str, Any] = {"now": now_s, "minutes": None, "walks": None, "is_whole": True}
        if self._topics:
            since_ms = round((now_s - SHOWN_S) * 1000)
            recent = self._recent.read(self._topics, device_id, since_ms)
            found["is_whole"] = recent.is_whole
            for topic, kind in self._topics.items():
                values = (record.read() for record in recent.records[topic])
                found[f"{kind}s"] = [value for value in values if value is not None]
        return found
