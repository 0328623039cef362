"""Questions to the cluster, about topics and offsets; every call waits for the answer."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec, ResourceType

from stepstream.streaming.clients import (
    ALWAYS_CONNECTED,
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    check_connection,
    client_properties,
)
from stepstream.streaming.retention import Limits
from stepstream.streaming.topics import check_rights, check_topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import ConfigEntry

    from stepstream.settings import Settings

__all__ = ["Cluster", "Committed", "TopicIdentity"]

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
GRACE_S = 2.0
NO_OFFSET = -1
TIMED_OUT = KafkaError._TIMED_OUT  # noqa: SLF001 - its public name
OUTDATED = {TIMED_OUT, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH}
"""Errors of a client that knows only an old coordinator or leader, and may keep asking it."""
T = TypeVar("T")


@dataclass(frozen=True)
class TopicIdentity:
    """A topic's id, empty where the broker gives none, and its number of partitions."""

    topic_id: str
    partition_count: int


@dataclass(frozen=True)
class Committed:
    """A committed offset, -1 if there is none, and its metadata."""

    offset: int
    metadata: str


class Cluster:
    """Questions to the cluster: topics, committed offsets, ends of partitions.

    Parameters
    ----------
    settings
        All settings.

    Notes
    -----
    Methods raise ``KafkaException`` if Kafka answers with an error or doesn't answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = self._make_admin()

    def _make_admin(self) -> AdminClient:
        properties = client_properties(self._settings.kafka, CONSUMER_ONLY + PRODUCER_ONLY)
        return AdminClient(
            {**ALWAYS_CONNECTED, "retry.backoff.ms": 20, **properties}, logger=logger
        )

    def _polled_admin(self) -> AdminClient:
        # Only a poll renews tokens of OAUTHBEARER.
        self._admin.poll(0)
        return self._admin

    def _result(self, future: Future[T]) -> T:
        """The result of a future; a client that knows only old brokers is replaced.

        A client that has lost its coordinator may never find it again. A client that was frozen
        while a leader changed may send the epoch of the old leader forever.
        """
        try:
            return future.result(TIMEOUT_S + GRACE_S)
        except TimeoutError:
            error = KafkaException(KafkaError(TIMED_OUT))
        except KafkaException as raised:
            if raised.args[0].code() not in OUTDATED:
                raise
            error = raised
        self._admin = self._make_admin()
        raise error from None

    def check_access(self) -> list[str]:
        """Connect, and return a sentence for each topic with missing rights.

        Raises
        ------
        StreamError
            A connection isn't possible.
        """
        check_connection(self._settings.kafka)
        return check_rights(self._admin, self._settings.topics)

    def check_topics(self) -> list[str]:
        """A sentence for each topic that is wrong."""
        return check_topics(self._admin, self._settings.topics)

    def identify_topics(self, topics: Iterable[str]) -> dict[str, TopicIdentity]:
        """Ids and partition counts of topics."""
        futures = self._polled_admin().describe_topics(
            TopicCollection(list(topics)), request_timeout=TIMEOUT_S
        )
        found = {name: self._result(future) for name, future in futures.items()}
        return {
            name: TopicIdentity(str(topic.topic_id), len(topic.partitions))
            for name, topic in found.items()
        }

    def committed_offsets(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], Committed]:
        """The group's committed offsets; left out while a transaction may still change them."""
        group = self._settings.kafka.group_id
        asked = [TopicPartition(topic, number) for topic, number in partitions]
        futures = self._polled_admin().list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, asked)],
            require_stable=True,
            request_timeout=TIMEOUT_S,
        )
        found: dict[tuple[str, int], Committed] = {}
        for tp in self._result(futures[group]).topic_partitions or []:
            if tp.error is not None:
                if tp.error.code() == KafkaError.UNSTABLE_OFFSET_COMMIT:
                    continue
                raise KafkaException(tp.error)
            found[tp.topic, tp.partition] = Committed(max(NO_OFFSET, tp.offset), tp.metadata or "")
        return found

    def offsets(
        self, partitions: Iterable[tuple[str, int]], *, at_end: bool, stable: bool = False
    ) -> dict[tuple[str, int], int]:
        """First offsets of partitions, or their ends: stable, or with uncommitted messages."""
        kind: Any = OffsetSpec  # its methods have no types
        spec = kind.latest() if at_end else kind.earliest()
        request: dict[Any, Any] = {TopicPartition(topic, n): spec for topic, n in partitions}
        level = IsolationLevel.READ_COMMITTED if stable else IsolationLevel.READ_UNCOMMITTED
        futures = self._polled_admin().list_offsets(
            request, isolation_level=level, request_timeout=TIMEOUT_S
        )
        return {(tp.topic, tp.partition): self._result(f).offset for tp, f in futures.items()}

    def first_messages(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Offset of each partition's first message, and its time; without those that have none.

        Times are milliseconds since the epoch.
        """
        kind: Any = OffsetSpec  # its methods have no types
        request: dict[Any, Any] = {
            TopicPartition(topic, n): kind.for_timestamp(0) for topic, n in partitions
        }
        if not request:
            return {}
        futures = self._polled_admin().list_offsets(request, request_timeout=TIMEOUT_S)
        found = {(tp.topic, tp.partition): self._result(f) for tp, f in futures.items()}
        return {name: (at.offset, at.timestamp) for name, at in found.items() if at.offset >= 0}

    def retention_limits(self, topics: Iterable[str]) -> dict[str, Limits]:
        """When messages of topics are deleted."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        if not resources:
            return {}
        futures = self._polled_admin().describe_configs(resources, request_timeout=TIMEOUT_S)
        found = {resource.name: self._result(future) for resource, future in futures.items()}
        return {name: _limits(config) for name, config in found.items()}


def _limits(config: Mapping[str, ConfigEntry]) -> Limits:
    # Brokers write -1 for a limit that isn't set.
    age_ms, size = (
        int(config[name].value or -1) if name in config else -1
        for name in ("retention.ms", "retention.bytes")
    )
    return Limits(math.inf if age_ms < 0 else age_ms, has_size=size >= 0)
