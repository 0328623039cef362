"""Where partitions end: what lag is measured by."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from stepstream.streaming.assignment import Assignment
    from stepstream.streaming.client_statistics import ClientStatistics
    from stepstream.streaming.cluster import Cluster
    from stepstream.streaming.system import System

__all__ = ["Ends"]


class Ends:
    """Keeps the ends of owned partitions up to date.

    Parameters
    ----------
    assignment
        Which partitions are owned.
    cluster
        Answers questions about offsets.
    system
        The clock.
    """

    def __init__(self, assignment: Assignment, cluster: Cluster, system: System) -> None:
        self._assignment = assignment
        self._cluster = cluster
        self._system = system

    def note(self, statistics: ClientStatistics) -> None:
        """Note where partitions end, from what the client says once a second.

        What it says is as old as the last answer of the partition's broker.
        """
        now_ms = self._system.now_us() // 1000
        for partition in self._assignment.owned:
            # What the client knows of a paused partition may be long out of date: see `refresh`.
            if not partition.phase.is_consuming or partition.pause_reasons:
                continue
            known = statistics.partition(partition.topic, partition.number)
            if known is not None and known.ls_offset >= 0 and statistics.is_heard(known.broker):
                partition.note_end(known.ls_offset, now_ms)
            elif not partition.lag.caught_up_ms:
                # What its position said has to do at first, and gets old from here on.
                partition.note_end(partition.lag.end_offset, now_ms)

    def refresh(self) -> None:
        """Look up where paused partitions end; waits, from any thread."""
        paused = {
            (p.topic, p.number): p
            for p in self._assignment.owned
            if p.phase.is_consuming and p.pause_reasons
        }
        # While the brokers are away, the old ends have to do.
        with suppress(KafkaException):
            # Not by the consumer: its calls from another thread can wait for ever behind a poll.
            for name, end in self._cluster.offsets(paused, at_end=True, stable=True).items():
                paused[name].note_end(end, self._system.now_us() // 1000)

    def partition_count(self, topic: str) -> int:
        """Partitions of a topic; 0 if no broker says so in time; may wait, from any thread."""
        for partition in self._assignment.owned:
            identity = partition.topic_identity
            if partition.topic == topic and identity is not None:
                return identity.partition_count
        try:
            return self._cluster.identify_topics([topic])[topic].partition_count
        except KafkaException:
            return 0
