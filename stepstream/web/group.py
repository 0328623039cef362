"""The consumer group, as the brokers describe it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_kafka_errors
from stepstream.web.answers import answer, refuse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.consumer import Consumer

__all__ = ["Group"]

VALID_S = 5.0
"""For so long, all who ask get the same answer."""
MAX_WAITING = 30
MAX_MEMBERS = 1_000
MAX_RANGES = 100


class Group:
    """Answers with the members of the group, and the partitions that each has.

    Parameters
    ----------
    consumer
        Its connections are used, and one more when somebody asks first.
    """

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._cluster: Cluster | None = None
        self._lock = asyncio.Lock()
        self._waiting = 0
        self._found: dict[str, Any] | str = {}
        self._valid_until_s = 0.0

    async def show(self, _request: Request) -> Response:
        """The group's state and members."""
        if self._waiting >= MAX_WAITING:
            return refuse(503, "busy", "others are asking, too", {"retry-after": "2"})
        self._waiting += 1
        try:
            async with self._lock:
                if time.monotonic() >= self._valid_until_s:
                    self._found = await asyncio.to_thread(self._ask)
                    self._valid_until_s = time.monotonic() + VALID_S
        finally:
            self._waiting -= 1
        if isinstance(self._found, str):
            return refuse(503, "unavailable", self._found, {"retry-after": "10"})
        return answer(self._found)

    def _ask(self) -> dict[str, Any] | str:
        """The answer, or why there is none."""
        if self._cluster is None:
            self._cluster = self._consumer.connections.cluster()
        try:
            with explain_kafka_errors("the brokers don't describe the group"):
                found = self._cluster.describe_group()
        except StreamError as error:
            return str(error)
        members = sorted(found.members, key=lambda m: m.group_instance_id or m.member_id)
        return {
            "group": found.group_id,
            "state": found.state.name.lower(),
            "count": len(members),
            "members": [
                {
                    "member_id": member.member_id,
                    "name": member.group_instance_id or member.client_id,
                    "host": member.host.lstrip("/"),
                    "partitions": _ranges(
                        (tp.topic, tp.partition) for tp in member.assignment.topic_partitions
                    ),
                    "count": len(member.assignment.topic_partitions),
                }
                for member in members[:MAX_MEMBERS]
            ],
        }


def _ranges(partitions: Any) -> str:
    """Partitions, in few words: ``readings-0..3, readings-7``."""
    ranges: list[tuple[str, int, int]] = []
    for topic, number in sorted(partitions):
        if ranges and ranges[-1][0] == topic and ranges[-1][2] == number - 1:
            ranges[-1] = topic, ranges[-1][1], number
        else:
            ranges.append((topic, number, number))
    texts = [
        f"{t}-{first}" if first == last else f"{t}-{first}..{last}" for t, first, last in ranges
    ]
    more = len(texts) - MAX_RANGES
    return ", ".join(texts[:MAX_RANGES]) + (f" and {more} more" if more > 0 else "")
