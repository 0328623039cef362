"""Questions to the cluster, about topics and offsets; every call waits for the answer."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
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
from stepstream.streaming.topics import (
    READINGS_POLICY,
    RIGHTS_TO_READ,
    check_rights,
    check_topics,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import ConfigEntry, ConsumerGroupDescription, TopicDescription

    from stepstream.settings import Settings, TopicSettings
    from stepstream.streaming.passwords import Passwords

__all__ = ["Cluster", "Committed", "FoundTopic", "TopicIdentity"]

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
GRACE_S = 2.0
DESCRIBE_TIMEOUT_S = 2.0
"""For a page that asks again."""
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
class FoundTopic:
    """A readings topic that exists, and what prevents it from being read, if anything does."""

    identity: TopicIdentity
    obstacle: str = ""


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
    passwords
        Gives the client a password that changes later.

    Notes
    -----
    Methods raise ``KafkaException`` if Kafka answers with an error or doesn't answer.
    """

    def __init__(self, settings: Settings, passwords: Passwords | None = None) -> None:
        self._settings = settings
        self._passwords = passwords
        self._admin = self._make_admin()
        self._policies: dict[tuple[str, str], str] = {}
        """Cleanup policies of topics that match patterns, by name and id."""

    @property
    def group(self) -> str:
        """The group's name."""
        return self._settings.kafka.group_id

    def _make_admin(self) -> AdminClient:
        properties = client_properties(self._settings.kafka, CONSUMER_ONLY + PRODUCER_ONLY)
        admin = AdminClient(
            {**ALWAYS_CONNECTED, "retry.backoff.ms": 20, **properties}, logger=logger
        )
        return admin if self._passwords is None else self._passwords.give(admin)

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
        """Ids and partition counts of those topics that exist."""
        return {name: _identity(topic) for name, topic in self._describe(topics).items()}

    def _describe(
        self, topics: Iterable[str], *, with_rights: bool = False
    ) -> dict[str, TopicDescription]:
        futures = self._polled_admin().describe_topics(
            TopicCollection(list(topics)),
            include_authorized_operations=with_rights,
            request_timeout=TIMEOUT_S,
        )
        found = {}
        for name, future in futures.items():
            try:
                found[name] = self._result(future)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return found

    def find_topics(self, topics: TopicSettings) -> dict[str, FoundTopic]:
        """The readings topics that exist: those that are named, and those that match a pattern."""
        names = set(topics.named)
        if topics.patterns:
            listed = self._polled_admin().list_topics(timeout=TIMEOUT_S).topics
            names.update(filter(topics.matches, listed))
        described = self._describe({*names, topics.state}, with_rights=bool(topics.patterns))
        state = described.pop(topics.state, None)
        state_count = len(state.partitions) if state else 0
        obstacles = {
            name: _obstacle(topic, state_count)
            for name, topic in described.items()
            if name not in topics.named
        }
        obstacles |= self._wrong_policies(
            {name: str(described[name].topic_id) for name, text in obstacles.items() if not text}
        )
        return {
            name: FoundTopic(_identity(topic), obstacles.get(name, ""))
            for name, topic in described.items()
        }

    def _wrong_policies(self, ids: dict[str, str]) -> dict[str, str]:
        """Those of the topics, given with their ids, that would lose readings, and why."""
        unknown = {item for item in ids.items() if item not in self._policies}
        resources = {ConfigResource(ResourceType.TOPIC, name): (name, i) for name, i in unknown}
        if resources:
            futures = self._polled_admin().describe_configs(
                list(resources), request_timeout=TIMEOUT_S
            )
            for resource, future in futures.items():
                config = self._result(future)
                self._policies[resources[resource]] = config["cleanup.policy"].value
        self._policies = {item: self._policies[item] for item in ids.items()}
        return {
            name: f"it has cleanup.policy={policy}, expected {READINGS_POLICY}"
            for (name, _), policy in self._policies.items()
            if policy != READINGS_POLICY
        }

    def committed_topics(self) -> frozenset[str]:
        """Topics in which the group has committed an offset."""
        group = self._settings.kafka.group_id
        futures = self._polled_admin().list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group)], request_timeout=TIMEOUT_S
        )
        found = self._result(futures[group]).topic_partitions or []
        return frozenset(tp.topic for tp in found if tp.offset >= 0)

    def has_members(self) -> bool:
        """Whether consumers are in the group."""
        found = self._result(self._polled_admin().list_consumer_groups(request_timeout=TIMEOUT_S))
        for error in found.errors or []:
            raise error
        empty = {ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}
        return any(
            group.group_id == self._settings.kafka.group_id and group.state not in empty
            for group in found.valid or []
        )

    def describe_group(self) -> ConsumerGroupDescription:
        """The group's state, its members, and which partitions each has."""
        group = self._settings.kafka.group_id
        futures = self._polled_admin().describe_consumer_groups(
            [group], request_timeout=DESCRIBE_TIMEOUT_S
        )
        found: ConsumerGroupDescription = self._result(futures[group])
        return found

    def committed_offsets(
        self, partitions: Iterable[tuple[str, int]], group: str = "", *, stable: bool = True
    ) -> dict[tuple[str, int], Committed]:
        """A group's committed offsets; if stable, without those that a transaction may change.

        By default, those of the group in the settings.
        """
        group = group or self.group
        asked = [TopicPartition(topic, number) for topic, number in partitions]
        futures = self._polled_admin().list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, asked)],
            require_stable=stable,
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

    def commit(self, group: str, partition: tuple[str, int], offset: int) -> None:
        """Commit an offset for a group without members."""
        at = ConsumerGroupTopicPartitions(group, [TopicPartition(*partition, offset)])
        futures = self._polled_admin().alter_consumer_group_offsets([at], request_timeout=TIMEOUT_S)
        for tp in self._result(futures[group]).topic_partitions or []:
            if tp.error is not None:
                raise KafkaException(tp.error)

    def delete_group(self, group: str) -> None:
        """Delete a group without members, if that is allowed; otherwise Kafka does so in days."""
        futures = self._polled_admin().delete_consumer_groups([group], request_timeout=TIMEOUT_S)
        try:
            self._result(futures[group])
        except KafkaException as error:
            logger.debug("group %s is not deleted: %s", group, error.args[0].str())

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
        """Offset and time of each partition's first message; without those that have none."""
        return self.messages_since(dict.fromkeys(partitions, 0))

    def messages_since(
        self, since_ms: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], tuple[int, int]]:
        """Offset and time of each partition's first message with a certain time or a later one.

        Partitions that have none are left out. Times are milliseconds since the epoch.
        """
        kind: Any = OffsetSpec  # its methods have no types
        request: dict[Any, Any] = {
            TopicPartition(topic, n): kind.for_timestamp(ms) for (topic, n), ms in since_ms.items()
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


def _identity(topic: TopicDescription) -> TopicIdentity:
    return TopicIdentity(str(topic.topic_id), len(topic.partitions))


def _obstacle(topic: TopicDescription, state_count: int) -> str:
    """Why a topic that matches a pattern can't be read, or an empty text."""
    # Brokers without an authorizer list all rights; brokers that don't know them list none.
    allowed = topic.authorized_operations
    lacking = [right.name for right in RIGHTS_TO_READ if allowed and right not in allowed]
    if lacking:
        return f"this user lacks {', '.join(lacking)}"
    count = len(topic.partitions)
    if count > state_count:
        return (
            f"it has {count} partitions, the state topic has {state_count}: "
            "add partitions to the state topic"
        )
    return ""
