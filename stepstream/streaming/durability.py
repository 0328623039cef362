"""What existing topics are like: replicas, and what differs from what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from stepstream.streaming.clients import (
    CONSUMER_ONLY,
    PRODUCER_ONLY,
    client_properties,
    explain_kafka_errors,
)
from stepstream.streaming.topics import TIMEOUT_S, wanted_topics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin import ConfigEntry, TopicMetadata

    from stepstream.settings import KafkaSettings, TopicSettings
    from stepstream.streaming.topics import WantedTopic

__all__ = ["TopicReport", "report_topics", "warnings_of"]

BROKERS_OWN = ("__consumer_offsets", "__transaction_state")
"""Topics of Kafka that exactly-once depends on, too. Not every user may see them."""
MEANINGS = {
    "message.timestamp.type": "a record's time is set by its sender, and so is stream time",
    "segment.bytes": "compaction leaves more for consumers to read at a start",
    "min.cleanable.dirty.ratio": "compaction leaves more for consumers to read at a start",
    "max.compaction.lag.ms": "compaction may wait for longer",
}


@dataclass(frozen=True)
class TopicReport:
    """A topic that exists.

    Attributes
    ----------
    name
        Its name.
    replicas
        Fewest replicas of a partition.
    in_sync
        Its ``min.insync.replicas``: on so many brokers is what was acknowledged; 0 if this user
        may not know.
    differences
        What differs from what `create_topics` would make, and what that means.
    """

    name: str
    replicas: int
    in_sync: int
    differences: tuple[str, ...] = ()

    @property
    def promise(self) -> str:
        """What becomes of its messages when brokers fail."""
        if self.replicas == 1:
            return "1 replica: what its broker loses is lost"
        if not self.in_sync:
            return f"{self.replicas} replicas"
        away = self.replicas - self.in_sync
        text = f"{self.replicas} replicas, min.insync.replicas {self.in_sync}: "
        if away < 0:
            return text + "nothing can be written"
        return (
            f"{text}what is acknowledged is on {self.in_sync} or more brokers, "
            f"and writing goes on while {away} are away"
        )


def report_topics(kafka: KafkaSettings, topics: TopicSettings) -> list[TopicReport]:
    """What the topics are like that stepstream uses, and Kafka's own as far as they can be seen.

    Raises
    ------
    StreamError
        A broker refuses.
    """
    with explain_kafka_errors("topics can't be described"):
        admin = AdminClient(client_properties(kafka, CONSUMER_ONLY + PRODUCER_ONLY))
        found = admin.list_topics(timeout=TIMEOUT_S).topics
        wanted = {topic.name: topic for topic in wanted_topics(topics) if topic.name in found}
        configs = _configs(admin, list(wanted))
    own = [name for name in BROKERS_OWN if name in found]
    return [
        *(
            TopicReport(
                name,
                _replicas(found[name]),
                int(configs[name]["min.insync.replicas"].value or 0),
                tuple(_differences(topic, found[name], configs[name], topics.replication_factor)),
            )
            for name, topic in wanted.items()
        ),
        *(TopicReport(name, _replicas(found[name]), 0) for name in own),
    ]


def _configs(admin: AdminClient, names: list[str]) -> dict[str, Mapping[str, ConfigEntry]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.describe_configs(resources, request_timeout=TIMEOUT_S) if resources else {}
    return {resource.name: future.result() for resource, future in futures.items()}


def _replicas(topic: TopicMetadata) -> int:
    return min((len(partition.replicas) for partition in topic.partitions.values()), default=0)


def _differences(
    wanted: WantedTopic,
    found: TopicMetadata,
    config: Mapping[str, ConfigEntry],
    replication_factor: int,
) -> list[str]:
    count, replicas = len(found.partitions), _replicas(found)
    texts = []
    if count != wanted.partitions:
        texts.append(f"{count} partitions, topics.partitions is {wanted.partitions}")
    if replication_factor > 0 and replicas != replication_factor:
        texts.append(f"{replicas} replicas, topics.replication_factor is {replication_factor}")
    for name, value in wanted.config.items():
        there = config[name].value if name in config else value
        if there != value:
            meaning = f": {MEANINGS[name]}" if name in MEANINGS else ""
            texts.append(f"{name}={there}, {value} when stepstream creates it{meaning}")
    return texts


def warnings_of(reports: list[TopicReport]) -> list[str]:
    """What of the topics' replicas doesn't go with the promise that nothing is lost."""
    single = [report.name for report in reports if report.replicas == 1]
    loose = [report.name for report in reports if report.replicas > 1 and report.in_sync == 1]
    stiff = [r.name for r in reports if r.replicas > 1 and r.in_sync == r.replicas]
    closed = [report.name for report in reports if report.in_sync > report.replicas]
    cases = (
        (single, "one replica: readings, events and step counts are lost with one broker's disk"),
        (loose, "min.insync.replicas=1: what is acknowledged may be on one broker only, set 2"),
        (
            stiff,
            "min.insync.replicas as many as replicas: nothing is written while one is away",
        ),
        (closed, "more min.insync.replicas than replicas: nothing can be written"),
    )
    return [f"{', '.join(names)}: {text}" for names, text in cases if names]
