"""Random streams of devices whose sensors send apart, at rates and with delays of their own."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from stepstream.detection import ACCELEROMETER, GYROSCOPE
from tests.detection.builders import EPOCH_US, Reading
from tests.detection.streams import message_span_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Message = list[Reading]


@dataclass
class _Sensor:
    """What a device sends of one sensor: messages, each with the time of its delivery."""

    bit: int
    rate_hz: float
    next_us: float
    messages: list[tuple[int, Message]]

    def repeat(self, count: int) -> None:
        """Deliver the last messages again."""
        again = self.messages[-count:]
        self.messages += [(again[-1][0], message) for _, message in again]

    def measure(
        self,
        random: np.random.Generator,
        device: int,
        span_us: tuple[int, int],
        shift_ms: int,
        size: int,
    ) -> None:
        """Readings in a span of time, in messages of at most a size, delivered with a shift."""
        begin_us, end_us = span_us
        if not begin_us <= self.next_us <= end_us:
            self.next_us = begin_us
        readings: Message = []
        normal, uniform = random.standard_normal, random.random
        while self.next_us < end_us:
            first, second = uniform() < 0.06, uniform() < 0.06
            signal = (first * (5 + 4.5 * uniform()), second * (5 + 4.5 * uniform()), normal())
            axes = (*signal, 0.0, 0.0, 0.0) if self.bit == ACCELEROMETER else (0.0,) * 3 + signal
            readings.append(Reading(device, round(self.next_us), axes, sensors=self.bit))
            self.next_us += max(1.0, 1e6 / self.rate_hz * (1.0 + 0.1 * normal()))
        while readings:
            count = int(random.integers(1, size + 1))
            message, readings = readings[:count], readings[count:]
            self.messages.append((message[-1].time_us // 1000 + shift_ms, message))


def _device(seed: int, device: int, pieces: list[tuple[str, int]]) -> list[tuple[int, Message]]:
    random = np.random.default_rng([seed, device])
    time_us = EPOCH_US + int(random.integers(0, 10**7))
    rates_hz = random.choice([50.0, 80.0, 100.0, 200.0], 2).tolist()
    accel = _Sensor(ACCELEROMETER, rates_hz[0], time_us, [])
    gyro = _Sensor(GYROSCOPE, rates_hz[1], time_us + float(random.integers(0, 30_000)), [])
    active = {"walk": (accel, gyro), "accel": (accel,), "gyro": (gyro,)}
    shift_ms, behind_ms = 0, 0
    size = int(random.choice([1, 9, 60, 400]))
    for kind, number in pieces:
        if kind == "gap":
            time_us += number * 10_000
        elif kind == "back":
            time_us -= number * 10_000_000
            shift_ms += number * 10_000
        elif kind == "quiet":
            shift_ms += number * 100
        elif kind == "behind":
            behind_ms = number * 10
        elif kind == "late":
            for sensor in (accel, gyro):
                sensor.repeat(number // 4 + 1)
        for sensor in active.get(kind, ()):
            delay_ms = shift_ms + (behind_ms if sensor is gyro else 0)
            sensor.measure(random, device, (time_us, time_us + number * 40_000), delay_ms, size)
        time_us += number * 40_000 if kind in active else 0
    return list(_in_order([accel, gyro], random))


def _in_order(sensors: list[_Sensor], random: np.random.Generator) -> Iterator[tuple[int, Message]]:
    """Messages of both sensors by delivery; sometimes two neighbours are one message."""
    queues = [sensor.messages for sensor in sensors]
    together = float(random.choice([0.0, 0.3, 1.0]))
    while any(queues):
        queue = min((q for q in queues if q), key=lambda q: q[0][0])
        at_ms, message = queue.pop(0)
        other = queues[1] if queue is queues[0] else queues[0]
        if other and random.random() < together:
            at_ms = max(at_ms, other[0][0])
            message = message + other.pop(0)[1]
        yield at_ms, message


@dataclass(frozen=True)
class SplitStream:
    """What a random stream is made from; see `Stream`."""

    seed: int
    devices: list[list[tuple[str, int]]]
    in_step: bool

    @cached_property
    def messages(self) -> list[Message]:
        """In order of arrival, with offsets and stream time."""
        devices = [_device(self.seed, d, pieces) for d, pieces in enumerate(self.devices)]
        random = np.random.default_rng(self.seed)
        offset, stream_ms = int(random.integers(0, 1000)), 0
        merged = []
        while any(devices):
            waiting = [queue for queue in devices if queue]
            if self.in_step:
                queue = min(waiting, key=lambda q: q[0][0] + random.integers(0, 2000))
            else:
                queue = waiting[int(random.integers(len(waiting)))]
            at_ms, message = queue.pop(0)
            stream_ms = max(stream_ms, at_ms)
            span_ms = message_span_ms(message)
            merged.append(
                [replace(r, offset=offset, stream_ms=stream_ms, span_ms=span_ms) for r in message]
            )
            offset += int(random.integers(1, 4))
        return merged

    @property
    def readings(self) -> list[Reading]:
        return flat(self.messages)


def flat(messages: Iterable[Message]) -> list[Reading]:
    return [reading for message in messages for reading in message]


def as_json(message: Message) -> bytes:
    """The value of a message that `JSON_INPUT` reads."""
    axes = {ACCELEROMETER: slice(0, 3), GYROSCOPE: slice(3, 6)}
    items = [
        {"sensor": r.sensors, "time": r.time_us, "xyz": r.axes[axes[r.sensors]]} for r in message
    ]
    return json.dumps({"readings": items}).encode()


JSON_INPUT: dict[str, Any] = {
    "readings": "readings",
    "time_unit": "us",
    "sensor": {"path": "sensor", "accelerometer": ACCELEROMETER, "gyroscope": GYROSCOPE},
    "fields": {
        "timestamp": "time",
        **{f"accel_{axis}": f"xyz.{n}" for n, axis in enumerate("xyz")},
        **{f"gyro_{axis}": f"xyz.{n}" for n, axis in enumerate("xyz")},
    },
}


KINDS = st.sampled_from(
    ["walk", "walk", "walk", "walk", "accel", "gyro", "behind", "gap", "late", "back", "quiet"]
)
PIECES = st.lists(st.tuples(KINDS, st.integers(1, 130)), min_size=1, max_size=8)


def split_streams(*, in_step: bool) -> st.SearchStrategy[SplitStream]:
    """Streams of up to three devices."""
    return st.builds(
        SplitStream,
        st.integers(0, 2**32 - 1),
        st.lists(PIECES, min_size=1, max_size=3),
        st.just(in_step),
    )
