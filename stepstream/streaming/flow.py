"""Flow control: the one place that pauses and resumes partitions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.partitions import PauseReason

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Consumer

    from stepstream.settings import ProcessingSettings
    from stepstream.streaming.partitions import Partition

__all__ = ["FlowControl"]

logger = logging.getLogger(__name__)


class FlowControl:
    """Keeps the reasons for which nothing is fetched of each partition.

    Kafka's client is told when a partition gets its first reason, and when it loses its last.
    Polling continues, so that the consumer stays in its group.

    Parameters
    ----------
    kafka
        The consumer of readings.
    settings
        The bounds of the outbox, and what happens where there are too many dead letters.
    """

    def __init__(self, kafka: Consumer, settings: ProcessingSettings) -> None:
        self._kafka = kafka
        self._max_records = settings.outbox_max_records
        self._max_size = settings.outbox_max_bytes
        self._on_limit = settings.on_dead_letter_limit
        self.is_backpressured = False
        """Whether nothing is fetched at all because the outbox is full."""

    def pause(self, partitions: Iterable[Partition], reason: PauseReason) -> None:
        """Add a reason to partitions."""
        paused = []
        for partition in partitions:
            if not partition.pause_reasons:
                paused.append(TopicPartition(partition.topic, partition.number))
            partition.pause_reasons.add(reason)
        if paused:
            self._kafka.pause(paused)

    def resume(self, partitions: Iterable[Partition], reason: PauseReason) -> None:
        """Remove a reason from partitions."""
        resumed = []
        for partition in partitions:
            if reason in partition.pause_reasons:
                partition.pause_reasons.remove(reason)
                if not partition.pause_reasons:
                    resumed.append(TopicPartition(partition.topic, partition.number))
        if resumed:
            self._kafka.resume(resumed)

    def hold(self, partitions: Iterable[Partition]) -> None:
        """Keep senders of invalid messages from filling the dead-letter topic.

        Raises
        ------
        StreamError
            There are too many dead letters, and the settings say to stop then.
        """
        for partition in partitions:
            reason = partition.limit.exceeded
            if not reason:
                continue
            if self._on_limit == "stop":
                raise StreamError(
                    f"{partition!r}: {reason} (processing.on_dead_letter_limit is stop)"
                )
            extra = {"reason": f"{partition!r}: {reason}"}
            if self._on_limit == "pause":
                self.pause([partition], PauseReason.HELD)
                logger.error("partition held until a person releases it", extra=extra)
            elif not partition.limit.is_warned:
                partition.limit.is_warned = True
                logger.warning("too many dead letters", extra=extra)

    def start(self, partition: Partition) -> None:
        """Fetch messages of a prepared partition, if there is no other reason to pause it."""
        if partition.is_held:
            self.pause([partition], PauseReason.HELD)
            extra = {"partition": repr(partition)}
            logger.error("partition is still held: stepstream release-partition", extra=extra)
        if self.is_backpressured:
            self.pause([partition], PauseReason.BACKPRESSURE)
        self.resume([partition], PauseReason.PREPARING)

    def apply_backpressure(self, partitions: Iterable[Partition], records: int, size: int) -> None:
        """Stop fetching while too many results wait to be published.

        Parameters
        ----------
        partitions
            All that are owned.
        records, size
            What waits, and its bytes.
        """
        waiting = max(records / self._max_records, size / self._max_size)
        if not self.is_backpressured and waiting > 1:
            self.is_backpressured = True
            self.pause(partitions, PauseReason.BACKPRESSURE)
            logger.warning(
                "reading is paused until results are published",
                extra={"records": records, "bytes": size},
            )
        elif self.is_backpressured and waiting <= 0.5:
            self.is_backpressured = False
            self.resume(partitions, PauseReason.BACKPRESSURE)
            logger.info("reading continues")
