"""The last messages of topics, read without a group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stepstream.errors import TopicError
from stepstream.inspection import Excerpt, FoundMessage
from stepstream.streaming.clients import (
    check_connection,
    explain_kafka_errors,
    reader_properties,
)
from stepstream.streaming.forgetting import COMMAND_KEY

if TYPE_CHECKING:
    from confluent_kafka import Message

    from stepstream.settings import KafkaSettings, TopicSettings

__all__ = ["MAX_BYTES", "read_latest"]

TIMEOUT_S = 10.0
"""For the messages of one topic; what has come by then is taken."""
MAX_BYTES = 64 << 20
"""Of the messages of one topic."""
MAX_TOPICS = 20
AT_ONCE = 1_000


def read_latest(kafka: KafkaSettings, topics: TopicSettings, most: int) -> list[Excerpt]:
    """Read the last committed messages of each readings topic.

    Parameters
    ----------
    kafka, topics
        Where they are.
    most
        Most messages of a topic, spread over its partitions.

    Returns
    -------
    list of Excerpt
        One for each topic that is named or matches a pattern, 20 at most; empty ones too.

    Raises
    ------
    StreamError
        The cluster can't be reached, or refuses.
    TopicError
        There is no such topic.
    """
    check_connection(kafka)
    with explain_kafka_errors("can't read the topics"):
        consumer = Consumer(
            {
                **reader_properties(kafka),
                "queued.max.messages.kbytes": 4_096,
                "enable.partition.eof": True,
            }
        )
        try:
            return [
                Excerpt(name, _read(consumer, name, count, most))
                for name, count in _partition_counts(consumer, topics).items()
            ]
        finally:
            consumer.close()


def _partition_counts(consumer: Consumer, topics: TopicSettings) -> dict[str, int]:
    found = consumer.list_topics(timeout=TIMEOUT_S).topics
    for name in topics.named:
        if name not in found:
            raise TopicError(f"there is no topic {name}; is topics.readings right?")
    names = [*topics.named, *sorted(filter(topics.matches, found))]
    if not names:
        raise TopicError(f"no topic matches {' or '.join(topics.patterns)}")
    return {name: len(found[name].partitions) for name in names[:MAX_TOPICS]}


def _read(consumer: Consumer, topic: str, count: int, most: int) -> list[FoundMessage]:
    """The last messages of each partition, at most so many of all."""
    ends: dict[int | None, int] = {}
    begins = []
    share = max(1, most // count)
    for number in range(count):
        at = TopicPartition(topic, number)
        first, end = consumer.get_watermark_offsets(at, TIMEOUT_S)
        if end > first:
            ends[number] = end
            begins.append(TopicPartition(topic, number, max(first, end - share)))
    messages: list[FoundMessage] = []
    size = 0
    consumer.assign(begins)
    deadline_s = time.monotonic() + TIMEOUT_S
    while ends and size < MAX_BYTES and time.monotonic() < deadline_s:
        for message in consumer.consume(AT_ONCE, 0.2):
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise KafkaException(error)
                ends.pop(message.partition(), None)
            elif (message.offset() or 0) < ends.get(message.partition(), 0):
                if message.key() == COMMAND_KEY:
                    continue
                messages.append(_found(message))
                size += len(message.value() or b"")
            else:
                ends.pop(message.partition(), None)
    consumer.unassign()
    return messages[:most]


def _found(message: Message) -> FoundMessage:
    kind, at_ms = message.timestamp()
    partition = message.partition()
    return FoundMessage(
        message.value(),
        message.key(),
        tuple(message.headers() or ()),  # type: ignore[arg-type]
        at_ms if kind else None,
        partition,
        f"partition {partition}, offset {message.offset()}",
    )
