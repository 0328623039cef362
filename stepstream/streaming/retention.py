"""How long it takes until readings are deleted that nobody has read."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from stepstream.streaming.assignment import Assignment
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.system import System

__all__ = ["Limits", "Retention"]

LIMITS_S = 600.0
"""How long a topic's limits are used before they are looked up again."""


@dataclass(frozen=True)
class Limits:
    """When the brokers delete messages of a topic.

    Attributes
    ----------
    age_ms
        Age from which on a message may be deleted; infinite if age doesn't matter.
    has_size
        Whether old messages are deleted when a partition has become too large, too.
    """

    age_ms: float
    has_size: bool


class Retention:
    """Knows for how long unread readings of the owned partitions are safe.

    A limit of the size becomes one of the age: a partition that has lost messages holds those of
    the last ``now - oldest`` seconds, and so it goes on if it gets as many messages as before.

    Parameters
    ----------
    assignment
        Which partitions are owned.
    cluster
        Answers questions about topics and offsets.
    system
        The clock.
    """

    def __init__(self, assignment: Assignment, cluster: Cluster, system: System) -> None:
        self._assignment = assignment
        self._cluster = cluster
        self._system = system
        self._looked_up_s = -math.inf
        self.limits: dict[str, Limits] = {}
        """Of each topic, as far as they are known."""
        self.oldest_ms: dict[tuple[str, int], int] = {}
        """Time of the first message of partitions that have lost messages for their size."""

    def refresh(self) -> None:
        """Look up limits, and what partitions with a limit of the size still hold; waits.

        Any thread may call it, one at a time. While brokers are away, what was known has to do.
        """
        owned = [(partition.topic, partition.number) for partition in self._assignment.owned]
        topics = {topic for topic, _ in owned}
        with suppress(KafkaException):
            now_s = self._system.monotonic()
            if topics - self.limits.keys() or now_s - self._looked_up_s >= LIMITS_S:
                self.limits = self._cluster.retention_limits(topics)
                self._looked_up_s = now_s
            sized = [name for name in owned if self.limits[name[0]].has_size]
            first = self._cluster.first_messages(sized)
            self.oldest_ms = {name: time_ms for name, (offset, time_ms) in first.items() if offset}

    def headroom_s(self, partition: Partition) -> float | None:
        """Seconds until readings may be deleted unread if nothing more of a partition is read.

        Infinite if nothing is ever deleted; None as long as it isn't known.
        """
        now_ms = self._system.now_us() // 1000
        limits, lag_ms = self.limits.get(partition.topic), partition.lag_ms(now_ms)
        if limits is None or lag_ms is None:
            return None
        span_ms = limits.age_ms
        oldest_ms = self.oldest_ms.get((partition.topic, partition.number))
        if oldest_ms is not None:
            span_ms = min(span_ms, now_ms - oldest_ms)
        return max(0.0, span_ms - lag_ms) / 1000
