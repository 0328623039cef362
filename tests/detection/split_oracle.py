"""The rules of split devices again, message by message and sample by sample.

It is slow and has no state between calls; see `tests.detection.oracle`.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection import ACCELEROMETER, GYROSCOPE
from tests.detection import oracle
from tests.detection.oracle import HOP, PERIOD_US, history_hops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.detection import Rules
    from tests.detection.builders import Found, Reading, TransparentModel


class _Sensor:
    """One sensor: its window, and the samples of this window and of those of the same message."""

    def __init__(self, rules: Rules, hop: int, hops: int) -> None:
        self.rules, self.hop, self.hops = rules, hop, hops
        self.last: Reading | None = None
        self.first = -1
        self.history: list[tuple[int, int]] = []
        self.samples: dict[int, np.ndarray] = {}

    @property
    def place(self) -> int:
        return self.last.time_us // PERIOD_US if self.last else -1

    def is_idle(self, stream_ms: int) -> bool:
        if self.last is None:
            return True
        return stream_ms - self.last.stream_ms > self.rules.idle_timeout_ms + self.last.span_ms

    def is_new(self, reading: Reading) -> bool:
        last, rules = self.last, self.rules
        if last is None or self.is_idle(reading.stream_ms):
            return True
        hop = max(self.first // self.hop, (self.place + 1) // self.hop - self.hops)
        place = bisect_left(self.history, (hop * self.hop * PERIOD_US, 0)) - 1
        # A gap of one sensor is never bridged.
        longest_us = min(rules.max_gap_us, oracle.LONGEST_INTERPOLATED_US)
        age_ms = reading.stream_ms - self.history[max(0, place)][1]
        return (
            (
                reading.stream_ms > last.stream_ms
                and age_ms > rules.idle_timeout_ms + last.span_ms + 10_000
            )
            or reading.time_us < last.time_us - rules.max_lateness_us
            or reading.time_us > last.time_us + longest_us
        )

    def add(self, reading: Reading, axes: slice) -> str:
        """Whether it is new (opens a window), late, or accepted."""
        values = np.array(reading.axes[axes], np.float32)
        before = self.last
        if self.is_new(reading):
            self.first = -(-reading.time_us // PERIOD_US)
            self.history = []
            if reading.time_us % PERIOD_US == 0:
                self.samples[self.first] = values
            verdict = "new"
        elif before and reading.time_us <= before.time_us:
            return "late"
        else:
            assert before
            a = np.array(before.axes[axes], np.float32)
            for k in range(before.time_us // PERIOD_US + 1, reading.time_us // PERIOD_US + 1):
                share = np.float32(k * PERIOD_US - before.time_us) / np.float32(
                    reading.time_us - before.time_us
                )
                self.samples[k] = a + (values - a) * share
            verdict = "accepted"
        self.last = reading
        self.history.append((reading.time_us, reading.stream_ms))
        return verdict


class _Device:
    """Both sensors of one device, and the window of its joined samples."""

    def __init__(self, model: TransparentModel, rules: Rules) -> None:
        self.model = model
        self.wait = rules.sensor_wait_us // PERIOD_US
        self.kept = self.wait + 2_000_000 // PERIOD_US
        hops = history_hops(model.metadata) + (2 * self.kept + self.wait) // HOP + 2
        self.accel = _Sensor(rules, HOP, hops)
        self.gyro = _Sensor(rules, self.kept, 1)
        self.known: dict[int, np.ndarray] = {}
        self.window: oracle._Window | None = None
        self.waiting: list[int] = []
        self.found: list[Found] = []

    def hear(self, message: Sequence[Reading]) -> None:
        """Both sensors are judged after the whole message."""
        self._hear_gyro([r for r in message if r.sensors & GYROSCOPE])
        sent = self._hear_accel([r for r in message if r.sensors & ACCELEROMETER], message[-1])
        # What the gyroscope keeps for later messages is of its current window.
        gyro = self.gyro
        self.known.update(gyro.samples)
        self.known = {k: v for k, v in self.known.items() if gyro.first <= k <= gyro.place}
        accel, stream_ms = self.accel, message[0].stream_ms
        if accel.is_idle(stream_ms):
            return
        heard = -1 if gyro.is_idle(stream_ms) else gyro.place
        reached = min(accel.place, max(heard, accel.place - self.kept))
        begin = max(sent[0], accel.place - self.kept) if sent else -1
        if begin - max(heard, accel.first) > self.wait:
            reached = accel.place
        self._judge([k for k in self.waiting if k <= reached], message[-1])
        self.waiting = [k for k in self.waiting if k > reached]

    def _hear_gyro(self, readings: Sequence[Reading]) -> None:
        gyro = self.gyro
        self.known = {k: v for k, v in self.known.items() if k > gyro.place - self.kept}
        gyro.samples = {}
        for reading in readings:
            before, samples = gyro.place, gyro.samples
            if gyro.add(reading, slice(3, 6)) != "new":
                continue
            self.known = {}
            if gyro.first <= before:
                on_grid = reading.time_us % PERIOD_US == 0
                gyro.samples = {gyro.first: samples[gyro.first]} if on_grid else {}

    def _hear_accel(self, readings: Sequence[Reading], last: Reading) -> list[int]:
        """Places of the accepted readings in the current window."""
        accel = self.accel
        sent: list[int] = []
        fresh: list[int] = []
        for reading in readings:
            before = accel.place
            verdict = accel.add(reading, slice(0, 3))
            if verdict == "new":
                # The samples of this message are joined, those of earlier ones are dropped.
                opening = accel.samples.get(accel.first)
                self._judge(fresh, last)
                self.waiting, sent = [], []
                self.window = oracle._Window(reading, history_hops(self.model.metadata))
                self.window.samples = {}
                fresh = [accel.first] if reading.time_us % PERIOD_US == 0 else []
                accel.samples = {accel.first: opening} if fresh and opening is not None else {}
            elif verdict == "accepted":
                fresh += range(before + 1, accel.place + 1)
            if verdict != "late":
                sent.append(accel.place)
        self.waiting += fresh
        return sent

    def _judge(self, places: Sequence[int], last: Reading) -> None:
        for k in places:
            assert self.window
            axes = np.zeros(6, np.float32)
            axes[:3] = self.accel.samples[k]
            if not self.gyro.is_idle(last.stream_ms):
                axes[3:] = self.gyro.samples.get(k, self.known.get(k, 0.0))
            self.window.samples[k] = axes
            if k % HOP == HOP - 1 and k - oracle.DELAY - HOP + 1 >= self.window.first:
                self.found += oracle._predict(self.window, k, last, self.model)


def detect(
    messages: Sequence[Sequence[Reading]], model: TransparentModel, rules: Rules
) -> list[Found]:
    """Steps of one device."""
    device = _Device(model, rules)
    for message in messages:
        device.hear(message)
    return device.found
