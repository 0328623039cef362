"""``stepstream topics``."""

from __future__ import annotations

import sys

from stepstream.settings import CommandSettings, KafkaSettings, Settings, TopicSettings
from stepstream.streaming.clients import explain_kafka_errors
from stepstream.streaming.cluster import Cluster
from stepstream.streaming.topics import READINGS_POLICY, create_topics

__all__ = ["Topics"]


class Topics(CommandSettings):
    """Create the topics that stepstream needs, and say what is wrong with existing ones."""

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()

    def execute(self) -> int:
        """Create and check."""
        created = create_topics(self.kafka, self.topics)
        for name in [*self.topics.named, *self.topics.written]:
            sys.stdout.write(f"{name}: {'created' if name in created else 'exists'}\n")
        if self.topics.patterns:
            self._show_matches()
        return 0

    def _show_matches(self) -> None:
        """Say what is known of topics that match patterns, and what later ones must be like."""
        cluster = Cluster(Settings(kafka=self.kafka, topics=self.topics))
        with explain_kafka_errors("topics that match can't be listed"):
            found = cluster.find_topics(self.topics)
            (state,) = cluster.identify_topics([self.topics.state]).values()
        for name in sorted(filter(self.topics.matches, found)):
            obstacle = found[name].obstacle
            sys.stdout.write(f"{name}: {f'not read: {obstacle}' if obstacle else 'matches'}\n")
        sys.stdout.write(
            f"topics that match {' or '.join(self.topics.patterns)} and are created later are read "
            f"if they have at most {state.partition_count} partitions and "
            f"cleanup.policy={READINGS_POLICY}\n"
        )
