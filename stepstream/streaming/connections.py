"""The Kafka clients of a consumer, so that a test can bring its own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

from stepstream.streaming.clients import (
    consumer_properties,
    producer_properties,
    reader_properties,
    state_consumer_properties,
)
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.passwords import Passwords

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, Message
    from pydantic import SecretStr

    from stepstream.settings import Settings

__all__ = ["Connections"]

logger = logging.getLogger("stepstream.streaming.consumer")


class _Consumer(Consumer):
    """Takes a new password before it is polled, see `Passwords`."""

    def __init__(self, properties: dict[str, Any], passwords: Passwords) -> None:
        super().__init__(properties, logger=logger)
        self._passwords = passwords
        self._password: SecretStr | None = None
        self._take_password()

    def poll(self, timeout: float = -1) -> Message | None:
        self._take_password()
        return super().poll(timeout)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        self._take_password()
        return super().consume(num_messages, timeout)

    def _take_password(self) -> None:
        newest = self._passwords.renewed
        if newest is not self._password:
            self._password = newest
            self._passwords.set(self)


class _Producer(Producer):
    """With references that don't keep it alive, which the client's own class lacks."""


class Connections:
    """Makes Kafka clients from the settings, and gives them a password that changes later.

    Parameters
    ----------
    settings
        All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passwords = Passwords(settings.kafka)

    def consumer(
        self, on_error: Callable[[KafkaError], None], on_statistics: Callable[[str], None]
    ) -> Consumer:
        """The consumer of readings; it makes callbacks while it is polled."""
        properties = consumer_properties(self._settings)
        callbacks = {"error_cb": on_error, "stats_cb": on_statistics}
        return _Consumer({**properties, **callbacks}, self._passwords)

    def state_consumer(self) -> Consumer:
        """The consumer of the state topic; it is in no group."""
        properties = state_consumer_properties(self._settings)
        return _Consumer(properties, self._passwords)

    def reader(self) -> Consumer:
        """A consumer in no group that is told where partitions end."""
        properties = reader_properties(self._settings.kafka)
        properties["enable.partition.eof"] = True
        return _Consumer(properties, self._passwords)

    def find_times(
        self, consumer: Consumer, partitions: list[tuple[str, int]], time_ms: int, timeout_s: float
    ) -> list[TopicPartition]:
        """The first offset of each partition whose record is from that time or later, if any."""
        asked = [TopicPartition(topic, number, time_ms) for topic, number in partitions]
        found: list[TopicPartition] = consumer.offsets_for_times(asked, timeout_s)
        return found

    def producer(self, on_statistics: Callable[[str], None]) -> Producer:
        """The producer of records; it makes callbacks while it is polled."""
        properties = producer_properties(self._settings)
        properties["stats_cb"] = on_statistics
        return self._passwords.give(_Producer(properties, logger=logger))

    def cluster(self) -> Cluster:
        """The client for questions about topics and offsets."""
        return Cluster(self._settings, self._passwords)
