"""How fast a backfill advances, looked up in a thread of its own."""

from __future__ import annotations

import logging
import time
from collections import deque
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

from confluent_kafka import KafkaException

from stepstream.errors import StreamError

if TYPE_CHECKING:
    from stepstream.streaming.backfill import Backfill, Done

__all__ = ["BackfillProgress"]

logger = logging.getLogger("stepstream.commands.backfill")

LOOK_S = 0.5
SAY_S = 5.0
RATE_S = 30.0
"""The rate is that of the last this many seconds."""


class BackfillProgress:
    """Looks how far a backfill is, until all of it is done by whichever processes; logs it.

    Parameters
    ----------
    backfill
        The backfill.
    done
        How far it is at the beginning.
    """

    def __init__(self, backfill: Backfill, done: Done) -> None:
        self._backfill = backfill
        self.done = done
        """How far it is; any thread may ask."""
        self.error: StreamError | None = None
        """Why it can't go on."""
        self._looks = deque([(time.monotonic(), done)])
        self._said_s = time.monotonic()
        self._closing = Event()
        self._thread = Thread(target=self._watch, name="progress", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to wait for: all is done, or can't be done."""
        return self.done.is_complete or self.error is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self.is_over and not self._closing.wait(LOOK_S):
            try:
                done = self._backfill.look()
            except KafkaException as error:
                logger.warning("how far it is can't be read: %s", error.args[0].str())
                continue
            except StreamError as error:
                self.error = error
                return
            if done is None:
                self.error = StreamError("the group's offsets were deleted: begin another backfill")
                return
            self._note(done)

    def _note(self, done: Done) -> None:
        now_s = time.monotonic()
        self.done = done
        if done.offsets == self._looks[0][1].offsets:
            # The rate is not that of the time in which the workers start.
            self._looks.clear()
        self._looks.append((now_s, done))
        while len(self._looks) > 2 and now_s - self._looks[1][0] > RATE_S:
            self._looks.popleft()
        if now_s - self._said_s < SAY_S and not done.is_complete:
            return
        self._said_s = now_s
        begin_s, before = self._looks[0]
        passed_s = max(now_s - begin_s, LOOK_S)
        left = done.all_offsets - done.offsets
        offset_rate = (done.offsets - before.offsets) / passed_s
        share = done.offsets / done.all_offsets if done.all_offsets else 1.0
        logger.info(
            "backfill",
            extra={
                "done": f"{share:.1%}",
                "readings": done.readings,
                "readings_per_s": round((done.readings - before.readings) / passed_s),
                "left_s": round(left / offset_rate) if offset_rate else None,
            },
        )
