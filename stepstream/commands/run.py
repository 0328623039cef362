"""``stepstream run``."""

from __future__ import annotations

import gc
import logging
import os
import signal
from typing import NoReturn

from stepstream.errors import StreamError
from stepstream.logs import configure_logging, switch_on_signal
from stepstream.settings import Settings
from stepstream.streaming.consumer import Consumer
from stepstream.web.server import Server

__all__ = ["Run"]

logger = logging.getLogger(__name__)

GC_THRESHOLD = 100_000
"""Objects that are made, and not yet freed, before the garbage collector looks at them."""


class Run(Settings):
    """Read readings, find steps, publish one event for each."""

    def execute(self) -> int:
        """Run until SIGTERM or SIGINT, then commit and leave the group."""
        configure_logging(self.logging, self.hide_secrets)
        switch_on_signal(self.logging)
        consumer = Consumer(self)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: consumer.stop())
        signal.signal(signal.SIGHUP, lambda *_: consumer.reload_model())
        logger.info(
            "started",
            extra={
                "topics": ",".join(self.topics.readings),
                "group": self.kafka.group_id,
                "guarantee": self.processing.guarantee,
                "model": consumer.model.metadata.label,
            },
        )
        _spare_the_garbage_collector()
        try:
            with Server(self, consumer):
                consumer.run()
        except StreamError as error:
            if consumer.has_open_calls:
                logger.error("%s", error)  # noqa: TRY400 - its place says nothing
                _leave(error.exit_code)
            raise
        logger.info("stopped")
        if consumer.has_open_calls:
            _leave(0)
        return 0


def _spare_the_garbage_collector() -> None:
    """Look for reference cycles once in many polls; otherwise each poll sets it off several times.

    It finds none among messages, and to look is a third of what taking them costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _leave(exit_code: int) -> NoReturn:
    """End without waiting for threads that may never come back from the Kafka client."""
    logging.shutdown()
    os._exit(exit_code)
