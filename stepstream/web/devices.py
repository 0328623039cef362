"""Devices: what the consumer knows of one, and a list of them."""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from stepstream.streaming.partitioning import partition_of
from stepstream.web.activity import open_activity, refuse_device
from stepstream.web.answers import answer, refuse

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.settings import Settings
    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition

__all__ = ["Devices", "ask"]

ASK_TIMEOUT_S = 2.0
COUNTS_VALID_S = 60.0
MAX_LISTED = 100
T = TypeVar("T")


async def ask(consumer: Consumer, question: Callable[[], T]) -> T:
    """An answer from the consumer's loop.

    Raises
    ------
    OverflowError, TimeoutError
        The loop is too busy, or it isn't running.
    """
    async with asyncio.timeout(ASK_TIMEOUT_S):
        return await asyncio.wrap_future(consumer.calls.submit(question))


class Devices:
    """Answers about devices, from the consumer's own memory.

    Parameters
    ----------
    settings
        All settings.
    consumer
        The consumer that has the devices.
    """

    def __init__(self, settings: Settings, consumer: Consumer) -> None:
        self._topics = settings.topics
        self._consumer = consumer
        self._counts: dict[str, tuple[int, float]] = {}

    async def show(self, request: Request) -> Response:
        """Step count, last step, window, open minute and open walk of a device."""
        device_id = request.path_params["device_id"]
        topic = request.query_params.get("topic")
        refusal = refuse_device(device_id, topic, self._topics)
        if refusal is not None:
            return refusal
        key = device_id.encode("utf-8", "surrogatepass")
        topics = tuple(sorted(self._consumer.subscription.names)) if topic is None else (topic,)
        try:
            found = await ask(self._consumer, lambda: self._find(topics, key, device_id))
            return answer(found) if found else await self._name_owner(topics, key)
        except (OverflowError, TimeoutError):
            return _busy("the consumer's loop doesn't answer")

    def _find(
        self, topics: tuple[str, ...], key: bytes, device_id: str
    ) -> dict[str, object] | None:
        for partition in self._consumer.assignment.owned:
            if partition.topic in topics and (
                key in partition.slots or partition.ledger.get(device_id)
            ):
                return self._describe(partition, key, device_id)
        return None

    def _describe(self, partition: Partition, key: bytes, device_id: str) -> dict[str, object]:
        entry = partition.ledger.get(device_id)
        slot = partition.slots.get(key)
        return {
            "device_id": device_id,
            "topic": partition.topic,
            "partition": partition.number,
            "step_count": 0 if entry is None else entry.step_count,
            "last_step": entry and {"ended_at": entry.ended_us / 1e6, "offset": entry.offset},
            "window": None if slot is None else self._window(slot),
            **open_activity(partition, device_id, self._consumer.model.metadata.label),
        }

    def _window(self, slot: int) -> dict[str, object] | None:
        window = self._consumer.processor.detector.window(slot)
        return window and {
            "began_at": window.began_us / 1e6,
            "last_reading_at": window.last_reading_us / 1e6,
            "is_full": window.is_full,
        }

    async def _name_owner(self, topics: tuple[str, ...], key: bytes) -> Response:
        """Why a device is not known: another consumer owns it, or it has sent nothing valid."""
        owned = {(p.topic, p.number): p.phase for p in self._consumer.assignment.owned}
        places = []
        for topic in topics:
            count = await asyncio.to_thread(self._partition_count, topic)
            if not count:
                return _busy("the brokers don't answer")
            places.append((topic, partition_of(key, count)))
        named = [{"topic": topic, "partition": number} for topic, number in places]
        words = ", ".join(f"partition {number} of {topic}" for topic, number in places)
        if any((phase := owned.get(place)) and phase.is_preparing for place in places):
            return _busy(f"the device belongs to {words}, which is being prepared")
        if any(place not in owned for place in places):
            return refuse(
                404,
                "not-owned",
                f"the device belongs to {words}; ask the consumer that owns it",
                partitions=named,
            )
        return refuse(404, "unknown-device", f"nothing came of it yet in {words}", partitions=named)

    def _partition_count(self, topic: str) -> int:
        """Number of a topic's partitions, stored for a while; 0 if the brokers don't answer."""
        count, valid_until_s = self._counts.get(topic, (0, 0.0))
        if time.monotonic() > valid_until_s:
            count = self._consumer.ends.partition_count(topic)
            if count:
                self._counts[topic] = count, time.monotonic() + COUNTS_VALID_S
        return count

    async def list(self, request: Request) -> Response:
        """Some of the devices that have a window here and whose ids begin with a prefix."""
        prefix = request.query_params.get("prefix", "").encode("utf-8", "replace")

        def find() -> list[dict[str, Any]]:
            found = (
                {
                    "device_id": key.decode(),
                    "topic": partition.topic,
                    "partition": partition.number,
                }
                for partition in self._consumer.assignment.owned
                for key in partition.slots
                if key.startswith(prefix)
            )
            return list(islice(found, MAX_LISTED))

        try:
            return answer({"devices": await ask(self._consumer, find)})
        except (OverflowError, TimeoutError):
            return _busy("the consumer's loop doesn't answer")


def _busy(detail: str) -> Response:
    return refuse(503, "unavailable", detail, {"retry-after": "1"})
