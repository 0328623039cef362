"""``stepstream`` with a pause after each poll, so that a small machine can load several pods."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from stepstream.cli import program
from stepstream.streaming.consumer import Consumer

if TYPE_CHECKING:
    from confluent_kafka import Message

PAUSE_S = 0.2

_poll = Consumer.poll


def _poll_and_pause(self: Consumer) -> list[Message]:
    messages = _poll(self)
    if messages:
        time.sleep(PAUSE_S)
    return messages


if __name__ == "__main__":
    Consumer.poll = _poll_and_pause  # type: ignore[method-assign]
    program()
