"""``stepstream topics``."""

from __future__ import annotations

import sys

from stepstream.settings import CommandSettings, KafkaSettings, TopicSettings
from stepstream.streaming.topics import create_topics

__all__ = ["Topics"]


class Topics(CommandSettings):
    """Create the topics that stepstream needs, and say what is wrong with existing ones."""

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()

    def execute(self) -> int:
        """Create and check."""
        created = create_topics(self.kafka, self.topics)
        for name in [*self.topics.readings, *self.topics.written]:
            sys.stdout.write(f"{name}: {'created' if name in created else 'exists'}\n")
        return 0
