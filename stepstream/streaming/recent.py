"""The latest published records of one device, read from their topics."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_denied, explain_kafka_errors
from stepstream.streaming.partitioning import partition_of
from stepstream.streaming.tail import PASSING, published_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka import Consumer

    from stepstream.outputs import PublishedRecord
    from stepstream.streaming.connections import Connections

__all__ = ["Recent", "RecentRecords"]

MAX_LOOKED_AT = 50_000
"""Records of a partition, with those of other devices: the latest."""
MAX_KEPT = 1_000
"""Records of the device, of each topic: the latest."""
TIMEOUT_S = 3.0
AT_ONCE = 1_000


class Recent(NamedTuple):
    """Records of a device, in the order of their offsets.

    Attributes
    ----------
    records
        Those of each topic.
    is_whole
        Whether earlier records of the time that was asked for are not missing.
    """

    records: dict[str, list[PublishedRecord]]
    is_whole: bool


class RecentRecords:
    """Reads what was published of a device, from the one partition of each topic that has it.

    Parameters
    ----------
    connections
        Makes the Kafka clients.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def read(self, topics: Mapping[str, str], device_id: str, since_ms: int) -> Recent:
        """The records of a device since a time; waits, from any thread.

        Parameters
        ----------
        topics
            Kind of the records of each topic; their keys have to be the ids of devices.
        device_id
            The device.
        since_ms
            Record time of the first, milliseconds since the epoch.

        Raises
        ------
        StreamError
            Kafka refuses, or it takes too long.
        """
        deadline_s = time.monotonic() + TIMEOUT_S
        with explain_kafka_errors("can't read the topics"):
            consumer = self._connections.reader()
            try:
                return self._read(consumer, topics, device_id.encode(), since_ms, deadline_s)
            except KafkaException as error:
                rights = {"topic": f"READ on {', '.join(topics)}"}
                raise (explain_denied(error.args[0], rights) or error) from None
            finally:
                consumer.close()

    def _read(
        self,
        consumer: Consumer,
        topics: Mapping[str, str],
        key: bytes,
        since_ms: int,
        deadline_s: float,
    ) -> Recent:
        places = [(name, _partition_of(consumer, name, key, deadline_s)) for name in topics]
        begins, is_whole = self._begin(consumer, places, since_ms, deadline_s)
        unread = {at.topic for at in begins}
        kept: dict[str, deque[PublishedRecord]] = {name: deque(maxlen=MAX_KEPT) for name in topics}
        consumer.assign(begins)
        while unread:
            for message in consumer.consume(AT_ONCE, min(0.5, _left_s(deadline_s))):
                error = message.error()
                topic = message.topic() or ""
                if error is None:
                    if message.key() == key:
                        kept[topic].append(published_record(topics[topic], message))
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    unread.discard(topic)
                elif error.code() not in PASSING:
                    raise KafkaException(error)
        return Recent({name: list(records) for name, records in kept.items()}, is_whole)

    def _begin(
        self,
        consumer: Consumer,
        places: list[tuple[str, int]],
        since_ms: int,
        deadline_s: float,
    ) -> tuple[list[TopicPartition], bool]:
        """Where to begin in each partition that has something, and whether that is early enough."""
        begins = []
        is_whole = True
        for at in self._connections.find_times(consumer, places, since_ms, _left_s(deadline_s)):
            if at.error is not None:
                raise KafkaException(at.error)
            _, end = consumer.get_watermark_offsets(at, _left_s(deadline_s))
            if 0 <= at.offset < end:
                begin = max(at.offset, end - MAX_LOOKED_AT)
                is_whole = is_whole and begin == at.offset
                begins.append(TopicPartition(at.topic, at.partition, begin))
        return begins, is_whole


def _partition_of(consumer: Consumer, topic: str, key: bytes, deadline_s: float) -> int:
    found = consumer.list_topics(topic, _left_s(deadline_s)).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return partition_of(key, len(found.partitions))


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise StreamError(f"the topics can't be read within {TIMEOUT_S:.0f} s")
    return left_s
