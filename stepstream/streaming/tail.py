"""The records of topics as they come, read without a group."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from stepstream.errors import TopicError
from stepstream.outputs import PublishedRecord
from stepstream.streaming.clients import (
    check_connection,
    explain_denied,
    explain_kafka_errors,
    reader_properties,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepstream.settings import KafkaSettings

__all__ = ["FROM_BEGINNING", "FROM_NOW", "PASSING", "TopicTail", "published_record"]

logger = logging.getLogger(__name__)

FROM_BEGINNING, FROM_NOW = OFFSET_BEGINNING, OFFSET_END
"""Brokers take them in place of a time."""
TIMEOUT_S = 10.0
AT_ONCE = 500
POLL_S = 0.2
LOOK_S = 10.0
"""Time between two looks for partitions that were added."""
PASSING = {
    KafkaError.GROUP_AUTHORIZATION_FAILED,  # no group is needed
    KafkaError.OFFSET_OUT_OF_RANGE,
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001 - their public names
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._RESOLVE,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
}
"""Errors after which the client goes on by itself; it logs those that people should know of."""


class TopicTail:
    """Reads all partitions of topics from one time on, and those that are added from their start.

    Parameters
    ----------
    kafka
        Where the topics are.
    topics
        Their names, with the kind of their records.
    begin_ms
        Record time to begin at, milliseconds since the epoch; or `FROM_BEGINNING`, `FROM_NOW`.

    Raises
    ------
    StreamError
        The cluster can't be reached, or refuses.
    TopicError
        There is no such topic.
    """

    def __init__(self, kafka: KafkaSettings, topics: Mapping[str, str], begin_ms: int) -> None:
        self._topics = dict(topics)
        self._rights = {"topic": f"READ on {', '.join(topics)}"}
        check_connection(kafka)
        with explain_kafka_errors("can't read the topics"):
            self._consumer = Consumer(reader_properties(kafka), logger=logger)
            try:
                begins = self._begin(begin_ms)
                self._consumer.assign(begins)
            except BaseException:
                self._consumer.close()
                raise
        self._known = {(at.topic, at.partition) for at in begins}
        self._look_s = time.monotonic() + LOOK_S

    def _begin(self, begin_ms: int) -> list[TopicPartition]:
        asked = self._list()
        for name in self._topics.keys() - {name for name, _ in asked}:
            raise TopicError(f"there is no topic {name} that this user may read")
        # First of all: what comes after this is new.
        ends = self._offsets(asked, FROM_NOW)
        begins = ends if begin_ms == FROM_NOW else self._offsets(asked, begin_ms)
        # No record may be as late as a time.
        return [
            begin if begin.offset >= 0 else end for begin, end in zip(begins, ends, strict=True)
        ]

    def _list(self) -> list[tuple[str, int]]:
        """The partitions that the topics have now."""
        found = self._consumer.list_topics(timeout=TIMEOUT_S).topics
        return [(name, n) for name in self._topics if name in found for n in found[name].partitions]

    def _add_partitions(self) -> None:
        """Take up the partitions that were added since the last look."""
        if time.monotonic() < self._look_s:
            return
        try:
            added = set(self._list()) - self._known
        except KafkaException as error:
            logger.warning("topics can't be listed: %s", error.args[0].str())
            added = set()
        if added:
            begins = [TopicPartition(*place, FROM_BEGINNING) for place in sorted(added)]
            self._consumer.incremental_assign(begins)
            self._known |= added
        self._look_s = time.monotonic() + LOOK_S

    def _offsets(self, partitions: list[tuple[str, int]], at_ms: int) -> list[TopicPartition]:
        asked = [TopicPartition(topic, number, at_ms) for topic, number in partitions]
        found: list[TopicPartition] = self._consumer.offsets_for_times(asked, TIMEOUT_S)
        for at in found:
            if at.error is not None:
                self._raise(at.error)
        return found

    def read(self) -> list[PublishedRecord]:
        """The next records, those of a partition in their order; none if none came in a while.

        Raises
        ------
        StreamError
            Kafka refuses.
        """
        records = []
        with explain_kafka_errors("can't read on"):
            self._add_partitions()
            for message in self._consumer.consume(AT_ONCE, POLL_S):
                error = message.error()
                if error is None:
                    kind = self._topics[message.topic() or ""]
                    records.append(published_record(kind, message))
                elif error.code() not in PASSING:
                    self._raise(error)
        return records

    def _raise(self, error: KafkaError) -> None:
        raise explain_denied(error, self._rights) or KafkaException(error)

    def close(self) -> None:
        """Let go of everything; the group that the client was named after never was one."""
        self._consumer.close()


def published_record(kind: str, message: Message) -> PublishedRecord:
    """A record of a kind, from the client's message."""
    time_kind, at_ms = message.timestamp()
    return PublishedRecord(
        kind,
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        at_ms if time_kind else None,
        message.key(),
        message.value(),
        tuple(message.headers() or ()),  # type: ignore[arg-type]
    )
