"""A plain producer of readings: bounded, in order, and it counts lost messages."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, Producer

from stepstream.errors import StreamError
from stepstream.streaming.clients import CONSUMER_ONLY, client_properties, explain_kafka_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.settings import KafkaSettings

__all__ = ["Publisher"]

logger = logging.getLogger(__name__)

QUEUE_TIMEOUT_S = 60.0


class Publisher:
    """Sends messages to one topic, keyed by device.

    Parameters
    ----------
    kafka
        The brokers.
    topic
        The topic to send to.
    """

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._topic = topic
        self.failed = 0
        """Messages that the broker didn't accept."""
        properties = {
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 200_000,
            **client_properties(kafka, CONSUMER_ONLY),
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
        }
        with explain_kafka_errors("kafka settings"):
            self._producer = Producer(properties, logger=logger)

    def send(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Queue a message; waits while the queue is full.

        Raises
        ------
        StreamError
            The queue stays full: no broker accepts messages.
        """
        deadline_s = 0.0
        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=list(headers), on_delivery=self._delivered
                )
            except BufferError:
                deadline_s = deadline_s or time.monotonic() + QUEUE_TIMEOUT_S
                if time.monotonic() > deadline_s:
                    raise StreamError("no broker accepts messages") from None
                self._producer.poll(0.05)
            else:
                return

    def poll(self) -> None:
        """Process reports of deliveries; call it from time to time."""
        self._producer.poll(0)

    def flush(self, timeout_s: float) -> int:
        """Wait for all deliveries; how many messages are lost so far."""
        self.failed += self._producer.flush(timeout_s)
        return self.failed

    def _delivered(self, error: KafkaError | None, _message: object) -> None:
        if error is not None:
            if not self.failed:
                logger.error("message not delivered: %s", error.str())
            self.failed += 1
