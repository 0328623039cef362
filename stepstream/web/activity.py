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

    from stepstream.settings import Settings, TopicSettings
    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.recent import Recent

__all__ = ["Activity", "open_activity", "refuse_device"]

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


def refuse_device(device_id: str, topic: str | None, topics: TopicSettings) -> Response | None:
    """Why a question about a device of a readings topic is refused, if it is."""
    if not 0 < len(device_id.encode("utf-8", "surrogatepass")) <= MAX_DEVICE_ID_BYTES:
        return refuse(400, "invalid-device-id", f"1 to {MAX_DEVICE_ID_BYTES} bytes are expected")
    if topic is not None and not topics.reads(topic):
        return refuse(404, "unknown-topic", "the consumer doesn't read this topic")
    return None


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
        self._readings = settings.topics
        topics = {"minute": settings.topics.minutes, "walk": settings.topics.walks}
        self._topics = {name: kind for kind, name in topics.items() if name}
        self._recent = RecentRecords(consumer.connections)
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def show(self, request: Request) -> Response:
        """Minutes and walks whose records are of the last hour; null if none are published."""
        device_id = request.path_params.get("device_id", request.query_params.get("device", ""))
        topic = request.query_params.get("topic")
        refusal = refuse_device(device_id, topic, self._readings)
        if refusal is not None:
            return refusal
        if self._waiting >= MAX_WAITING:
            return refuse(503, "busy", "others are asking, too", {"retry-after": "2"})
        self._waiting += 1
        try:
            async with self._lock:
                return answer(await asyncio.to_thread(self._read, device_id, topic))
        except StepstreamError as error:
            return refuse(503, "unavailable", str(error), {"retry-after": "30"})
        finally:
            self._waiting -= 1

    def _read(self, device_id: str, topic: str | None) -> dict[str, Any]:
        now_s = time.time()
        found: dict[str, Any] = {"now": now_s, "minutes": None, "walks": None, "is_whole": True}
        if self._topics:
            since_ms = round((now_s - SHOWN_S) * 1000)
            recent = self._recent.read(self._topics, device_id, since_ms)
            topic = topic or _latest_source(recent)
            found["is_whole"] = recent.is_whole
            for name, kind in self._topics.items():
                values = (one.read() for one in recent.records[name] if one.source == topic)
                found[f"{kind}s"] = [value for value in values if value is not None]
        return {"topic": topic, **found}


def _latest_source(recent: Recent) -> str | None:
    """The readings topic of the latest record; None if there is no record."""
    records = (record for records in recent.records.values() for record in records)
    latest = max(records, key=lambda record: record.time_ms or 0, default=None)
    return latest and latest.source
