"""Sending simulated messages at the right times."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from threading import Event

    from stepstream.simulation.fleet import Message

__all__ = ["Sent", "Sink", "begin_epoch", "send"]

SPAN_S = 0.005
"""Messages that are due within this time are sent together."""


class Sink(Protocol):
    """Where messages go."""

    def send(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Queue a message."""

    def poll(self) -> None:
        """Process reports of deliveries."""


@dataclass
class Sent:
    """What was sent so far.

    Attributes
    ----------
    messages, readings
        How many.
    simulated_s
        The simulation's time.
    behind_s
        The longest time by which a message was sent late.
    """

    messages: int = 0
    readings: int = 0
    simulated_s: float = 0.0
    behind_s: float = 0.0


def begin_epoch(seconds: float, speed: float, now_s: float) -> float:
    """Seconds since the epoch at which a simulation begins.

    If it runs faster than real time, its clock starts so far in the past that no reading is ever
    ahead of the consumer's clock.

    Parameters
    ----------
    seconds
        Length of the simulation, in its own time.
    speed
        Times real time; 0 is as fast as possible.
    now_s
        The clock.
    """
    if speed == 0:
        return now_s - seconds
    return now_s - max(0.0, seconds - seconds / speed)


def send(messages: Iterable[Message], sink: Sink, speed: float, stop: Event, sent: Sent) -> None:
    """Send messages when they are due, until they end or ``stop`` is set.

    The times are fixed in advance: if sending is late, the next messages are sent at once.
    """
    begin_s = time.monotonic()
    wait_until_s = 0.0
    for message in messages:
        if speed and message.due_s >= wait_until_s:
            sink.poll()
            wait_s = begin_s + message.due_s / speed - time.monotonic()
            if stop.wait(max(0.0, wait_s)):
                return
            sent.behind_s = max(sent.behind_s, -wait_s)
            wait_until_s = message.due_s + SPAN_S * speed
        elif sent.messages % 1000 == 0:
            sink.poll()
            if stop.is_set():
                return
        sink.send(message.key, message.value, message.headers)
        sent.messages += 1
        sent.readings += message.readings
        sent.simulated_s = message.due_s
