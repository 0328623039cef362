"""``stepstream run``."""

from __future__ import annotations

import logging
import signal

from stepstream.logs import configure_logging
from stepstream.settings import Settings
from stepstream.streaming.consumer import Consumer
from stepstream.web.server import Server

__all__ = ["Run"]

logger = logging.getLogger(__name__)


class Run(Settings):
    """Read readings, find steps, publish one event for each."""

    def execute(self) -> int:
        """Run until SIGTERM or SIGINT, then commit and leave the group."""
        configure_logging(self.logging, self.hide_secrets)
        consumer = Consumer(self)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: consumer.stop())
        logger.info(
            "started",
            extra={
                "topics": ",".join(self.topics.readings),
                "group": self.kafka.group_id,
                "guarantee": self.processing.guarantee,
                "model": consumer.model.metadata.label,
            },
        )
        with Server(self.http, consumer):
            consumer.run()
        logger.info("stopped")
        return 0
