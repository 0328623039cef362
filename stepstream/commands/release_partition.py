"""``stepstream release-partition``."""

from __future__ import annotations

import sys

from pydantic import Field
from pydantic_settings import CliPositionalArg

from stepstream.errors import StreamError
from stepstream.logs import configure_logging
from stepstream.settings import (
    CommandSettings,
    Into,
    KafkaSettings,
    LoggingSettings,
    Settings,
    TopicSettings,
    in_unit,
)
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.holding import release_partition

__all__ = ["ReleasePartition"]


class ReleasePartition(CommandSettings):
    """Let a partition go on that is held because too many of its messages were invalid."""

    topic: CliPositionalArg[str]
    """Its topic."""
    partition: CliPositionalArg[int] = Field(ge=0)
    """Its number."""
    timeout_s: float = Field(60.0, ge=0, json_schema_extra=in_unit("s"))
    """Longest time to wait until its consumer goes on with it."""
    into: Into = None
    """Let the second group of this name go on."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    logging: LoggingSettings = LoggingSettings()

    def execute(self) -> int:
        """Mark it, and wait until it goes on; an error if it doesn't in time."""
        configure_logging(self.logging, self.hide_secrets)
        settings = Settings(kafka=self.kafka, topics=self.topics, into=self.into).renamed()
        kafka, cluster = settings.kafka, Cluster(settings)
        name = f"{self.topic}-{self.partition}"
        if release_partition(kafka, cluster, self.topic, self.partition, self.timeout_s):
            sys.stdout.write(f"released: {name}\n")
            return 0
        raise StreamError(
            f"{name}: no consumer of group {kafka.group_id} has gone on with it within "
            f"{self.timeout_s:g} s. It is released when a consumer owns it; is one running?"
        )
