from __future__ import annotations

import time
from threading import Event
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.simulation.fleet import Message
from stepstream.simulation.simulator import Sent, begin_epoch, send


class Sink:
    def __init__(self) -> None:
        self.sent: list[tuple[float, bytes]] = []

    def send(self, key: bytes, value: bytes, headers: Any = ()) -> None:  # noqa: ARG002 - a sink takes all
        self.sent.append((time.monotonic(), value))

    def poll(self) -> None:
        pass


def stream(count: int, every_s: float) -> list[Message]:
    return [Message(n * every_s, b"d", str(n).encode(), 2) for n in range(count)]


@given(
    seconds=st.floats(0.1, 1e6),
    speed=st.just(0.0) | st.floats(0.05, 1000),
    share=st.floats(0, 1),
)
def test_no_reading_is_ever_ahead_of_the_clock(seconds: float, speed: float, share: float) -> None:
    now_s = 1_700_000_000.0
    reading_s = share * seconds
    sent_at_s = now_s + (reading_s / speed if speed else 0.0)
    assert begin_epoch(seconds, speed, now_s) + reading_s <= sent_at_s + 1e-3


@pytest.mark.parametrize("speed", [1.0, 5.0])
def test_messages_go_out_when_they_are_due(speed: float) -> None:
    sink, sent = Sink(), Sent()
    begin_s = time.monotonic()
    send(stream(40, 0.01), sink, speed, Event(), sent)
    took_s = time.monotonic() - begin_s
    assert took_s >= 0.39 / speed - 0.006
    assert [value for _, value in sink.sent] == [str(n).encode() for n in range(40)]
    assert (sent.messages, sent.readings) == (40, 80)
    assert sent.simulated_s == pytest.approx(0.39)
    for n, (at_s, _) in enumerate(sink.sent):
        assert at_s - begin_s >= n * 0.01 / speed - 0.006


def test_at_speed_zero_nothing_waits() -> None:
    sink = Sink()
    begin_s = time.monotonic()
    send(stream(100, 60.0), sink, 0, Event(), Sent())
    assert time.monotonic() - begin_s < 5
    assert len(sink.sent) == 100


def test_sending_stops_when_told() -> None:
    stop = Event()
    stop.set()
    sink = Sink()
    send(stream(100, 60.0), sink, 1, stop, Sent())
    assert not sink.sent
