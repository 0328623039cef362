"""The topics that stepstream needs: creating them, and what is wrong with those that exist."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AclOperation,
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from stepstream.errors import TopicError
from stepstream.streaming.clients import (
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    check_connection,
    client_properties,
    explain_kafka_errors,
)

if TYPE_CHECKING:
    from confluent_kafka.admin import TopicMetadata

    from stepstream.settings import KafkaSettings, TopicSettings

__all__ = [
    "READINGS_POLICY",
    "RIGHTS_TO_READ",
    "WantedTopic",
    "check_rights",
    "check_topics",
    "create_topics",
    "wanted_topics",
]

logger = logging.getLogger(__name__)

TIMEOUT_S = 30.0
READINGS_POLICY = "delete"
"""The cleanup policy of readings topics: compaction would delete readings."""
RIGHTS_TO_READ = (AclOperation.READ, AclOperation.DESCRIBE_CONFIGS)
"""What a user needs on a readings topic."""


@dataclass(frozen=True)
class WantedTopic:
    """A topic as stepstream would create it.

    Attributes
    ----------
    name, partitions
        Its name and number of partitions.
    config
        Topic settings at creation.
    required
        Those among them without which stepstream can't work.
    """

    name: str
    partitions: int
    config: dict[str, str] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


def wanted_topics(topics: TopicSettings) -> list[WantedTopic]:
    """All topics that stepstream reads and writes, as far as they are named."""
    delete = {"cleanup.policy": READINGS_POLICY}
    required = frozenset(delete)
    readings = [
        WantedTopic(
            name,
            topics.partitions,
            {**delete, "message.timestamp.type": "LogAppendTime"},
            required,
        )
        for name in topics.named
    ]
    compact = {
        "cleanup.policy": "compact",
        "segment.bytes": str(1 << 20),
        "min.cleanable.dirty.ratio": "0.1",
        "max.compaction.lag.ms": str(3_600_000),
    }
    return [
        *readings,
        *(
            WantedTopic(
                name,
                topics.partitions,
                compact if name in topics.compacted else delete,
                required,
            )
            for name in topics.written
        ),
    ]


def create_topics(kafka: KafkaSettings, topics: TopicSettings) -> list[str]:
    """Create the topics that don't exist yet; their names.

    Raises
    ------
    TopicError
        A topic can't be created, or an existing one is wrong.
    """
    check_connection(kafka)
    with explain_kafka_errors("kafka settings"):
        admin = AdminClient(client_properties(kafka, CONSUMER_ONLY + PRODUCER_ONLY), logger=logger)
    # A user that may only DESCRIBE topics gets the problems of existing ones.
    there = _list_topics(admin)
    wanted = [topic for topic in wanted_topics(topics) if topic.name not in there]
    created = _create(admin, wanted, topics.replication_factor) if wanted else []
    deadline_s = time.monotonic() + TIMEOUT_S
    # For a moment, a broker may answer as if the topics didn't exist.
    while not set(created) <= _list_topics(admin).keys() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    problems = check_topics(admin, topics)
    if problems:
        raise TopicError("; ".join(problems))
    return created


def _create(admin: AdminClient, wanted: list[WantedTopic], replication_factor: int) -> list[str]:
    futures = admin.create_topics(
        [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=replication_factor,
                config=topic.config,
            )
            for topic in wanted
        ],
        operation_timeout=TIMEOUT_S,
        request_timeout=TIMEOUT_S,
    )
    created = []
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise TopicError(
                    f"topic {name}: this user may neither DESCRIBE nor CREATE it"
                ) from None
            if code != KafkaError.TOPIC_ALREADY_EXISTS:
                raise TopicError(f"topic {name}: {error.args[0].str()}") from None
        else:
            created.append(name)
    return created


def check_rights(admin: AdminClient, topics: TopicSettings) -> list[str]:
    """A sentence for each topic to which this user lacks rights; empty without authorization."""
    describe, read = AclOperation.DESCRIBE, AclOperation.READ
    write, configs = AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS
    needed = {
        **dict.fromkeys(topics.named, RIGHTS_TO_READ),
        **dict.fromkeys(topics.written, (write, configs)),
        topics.state: (read, write, configs),
    }
    futures = admin.describe_topics(
        TopicCollection(list(needed)), include_authorized_operations=True, request_timeout=TIMEOUT_S
    )
    lacking = {}
    for name, future in futures.items():
        try:
            allowed = future.result().authorized_operations
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                lacking[name] = [describe, *needed[name]]
            elif code != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
        else:
            # Brokers without an authorizer list all rights; brokers that don't know them list none.
            lacking[name] = [right for right in needed[name] if allowed and right not in allowed]
    return [
        f"topic {name}: this user lacks {', '.join(right.name for right in rights)}"
        for name, rights in lacking.items()
        if rights
    ]


def _list_topics(admin: AdminClient) -> dict[str, TopicMetadata]:
    try:
        return admin.list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise TopicError(f"can't list topics: {error.args[0].str()}") from None


def check_topics(admin: AdminClient, topics: TopicSettings) -> list[str]:
    """A sentence for each topic that is wrong; empty if none is."""
    found = _list_topics(admin)
    wanted = wanted_topics(topics)
    problems = [f"topic {topic.name} is missing" for topic in wanted if topic.name not in found]
    existing = [topic for topic in wanted if topic.name in found]
    counts = {topic.name: len(found[topic.name].partitions) for topic in existing}
    most = max((counts.get(name, 0) for name in topics.named), default=0)
    if counts.get(topics.state, most) < most:
        problems.append(
            f"topic {topics.state} has {counts[topics.state]} partitions, the readings have {most}"
        )
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in existing]
    configs = admin.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    for topic, future in zip(existing, configs.values(), strict=True):
        with explain_kafka_errors(f"topic {topic.name}, DESCRIBE_CONFIGS"):
            config = future.result()
        for name in sorted(topic.required):
            value = config[name].value if name in config else None
            if value is not None and value != topic.config[name]:
                problems.append(
                    f"topic {topic.name} has {name}={value}, expected {topic.config[name]}"
                )
    return problems
