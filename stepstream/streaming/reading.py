"""Messages of a topic between offsets, read without a group."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.clients import reader_properties

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from confluent_kafka import Message

    from stepstream.settings import KafkaSettings

__all__ = ["read_between"]

logger = logging.getLogger(__name__)

AT_ONCE = 10_000
WAIT_S = 0.2
TIMEOUT_S = 30.0
"""Longest time without a message."""


def read_between(
    kafka: KafkaSettings, topic: str, offsets: Mapping[int, tuple[int, int]]
) -> Generator[list[Message]]:
    """Read the committed messages of a topic's partitions.

    Parameters
    ----------
    kafka
        How to connect.
    topic
        The topic.
    offsets
        For each partition, the offset of the first message and the one behind the last.

    Yields
    ------
    list of Message
        Some of them, those of a partition in order.

    Raises
    ------
    StreamError
        Nothing comes for 30 s.
    KafkaException
        The client or a broker refuses.
    """
    open_ends = {number: end for number, (begin, end) in offsets.items() if begin < end}
    consumer = Consumer({**reader_properties(kafka), "enable.partition.eof": True}, logger=logger)
    try:
        consumer.assign([TopicPartition(topic, n, offsets[n][0]) for n in open_ends])
        heard_s = time.monotonic()
        while open_ends:
            found: list[Message] = []
            for message in consumer.consume(AT_ONCE, WAIT_S):
                number, offset = message.partition() or 0, message.offset() or 0
                error = message.error()
                if error is None:
                    if offset < open_ends.get(number, 0):
                        found.append(message)
                    next_offset = offset + 1
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    next_offset = offset
                else:
                    raise KafkaException(error)
                if next_offset >= open_ends.get(number, next_offset + 1):
                    del open_ends[number]
                heard_s = time.monotonic()
            if found:
                yield found
                # What is done with them takes time.
                heard_s = time.monotonic()
            elif time.monotonic() - heard_s > TIMEOUT_S:
                raise StreamError(f"{topic} can't be read: nothing came for {TIMEOUT_S:.0f} s")
    finally:
        consumer.close()
