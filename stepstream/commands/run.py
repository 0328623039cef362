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
"""The garbage collector runs after this many objects were made and not freed."""


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
    """Run the garbage collector once in many polls; by default it runs several times in each poll.

    Messages have no reference cycles, and the search costs a third of the time to consume them.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _leave(exit_code: int) -> NoReturn:
    """End without waiting for threads whose call of the Kafka client may never return."""
    logging.shutdown()
    os._exit(exit_code)
