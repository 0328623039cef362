"""Readings and a network whose answers can be told from the readings alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from stepstream.detection import (
    Model,
    ModelMetadata,
    Readings,
    Rules,
    SplitReadings,
    Steps,
    make_step_detector,
)
from stepstream.detection.model import Hops, MemoryShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

PERIOD_US = 12_500
EPOCH_US = 1_700_000_000_000_000

METADATA = ModelMetadata(
    name="transparent",
    version="1",
    rate_hz=80,
    window=128,
    hop=8,
    delay=24,
    accel_scale=10.0,
    gyro_scale=2.0,
    start_threshold=0.5,
    end_threshold=0.5,
    refractory=16,
    settling=8,
    shortest_step=36,
    longest_step=100,
    walking_threshold=0.3,
    start_reach=(12, 12),
    end_reach=(16, 8),
    waiting=80,
    end_calibration=(1.5, 0.25),
)


SUPPORTED = msgspec.structs.replace(
    METADATA,
    end_threshold=0.8,
    support=(0.5, 0.25),
    supporting=124,
    refractory=20,
    waiting=120,
)
"""The same with other rules: the ends before one support it."""


class TransparentModel(Model):
    """Start probability is accel_x / 10 at the sample, end probability accel_y / 10.

    Where accel_z or gyro_z is not 0, it adds a little that depends on every sample of the window,
    so that a window with a wrong sample anywhere shows.
    """

    def __init__(self, metadata: ModelMetadata = METADATA) -> None:
        self.metadata = metadata
        self.memory = MemoryShape(1, 15, 64)
        self.most_hops = 4

    def predict(self, hops: Hops) -> NDArray[np.float32]:
        latest = hops.latest[:, 0]
        assert len(np.unique(latest)) == latest.size
        assert hops.rows.shape == latest.shape
        seen = np.concatenate([hops.memory[hops.past], hops.samples[hops.rows]], axis=1)
        hops.memory[latest] = hops.samples[hops.rows]
        given = [
            self.predict_windows(seen[:, n : n + 16].reshape(-1, 128, 8))
            for n in range(latest.shape[1])
        ]
        return np.stack(given, axis=1)

    def predict_windows(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is given for whole windows (n, 128, 8); samples before the first are 0."""
        weights = np.arange(1, 129)
        noise = windows[:, :, 2] + windows[:, :, 5]
        fingerprint = ((noise * 1000).astype(np.int64) * weights).sum(axis=1) % 97
        given: NDArray[np.float32] = (
            windows[:, 96:104, :2] + (fingerprint / 1000).astype(np.float32)[:, None, None]
        )
        return given


@dataclass(frozen=True)
class Reading:
    """One reading of one device, as a message would carry it; ``sensors`` if these send apart."""

    device: int
    time_us: int
    axes: tuple[float, ...] = (0.0,) * 6
    offset: int = 0
    stream_ms: int = 0
    span_ms: int = 0
    sensors: int = 0


def columns(readings: Sequence[Reading], slots: dict[int, int]) -> Readings:
    return Readings(
        np.array([slots[r.device] for r in readings], np.intp),
        np.array([r.time_us for r in readings], np.int64),
        np.array([r.axes for r in readings], np.float32).reshape(-1, 6),
        np.array([r.offset for r in readings], np.int64),
        np.array([r.stream_ms for r in readings], np.int64),
        np.array([r.span_ms for r in readings], np.int64),
    )


def split_columns(readings: Sequence[Reading], slots: dict[int, int]) -> SplitReadings:
    joined = columns(readings, slots)
    return SplitReadings(
        joined.slot,
        joined.time_us,
        joined.axes,
        joined.offset,
        joined.stream_ms,
        joined.span_ms,
        np.array([r.sensors for r in readings], np.uint8),
    )


Found = tuple[int, int, int, float, float, int]


def rows(steps: Steps, devices: dict[int, int]) -> list[Found]:
    """Steps as plain values, with the device instead of its slot."""
    return [
        (devices[slot], start, end, p_start, p_end, offset)
        for slot, start, end, p_start, p_end, offset in zip(
            steps.slot.tolist(),
            steps.start_us.tolist(),
            steps.end_us.tolist(),
            steps.start_probability.tolist(),
            steps.end_probability.tolist(),
            steps.offset.tolist(),
            strict=True,
        )
    ]


class Feed:
    """A detector that is fed plain readings, in pieces."""

    def __init__(
        self, rules: Rules | None = None, hops_ahead: int = 2, model: Model | None = None
    ) -> None:
        self.rules = rules or Rules()
        self.detector = make_step_detector(
            model or TransparentModel(), self.rules, hops_ahead=hops_ahead
        )
        self.slots: dict[int, int] = {}
        self.found: list[Found] = []

    def feed(self, readings: Sequence[Reading]) -> list[Found]:
        for reading in readings:
            if reading.device not in self.slots:
                self.slots[reading.device] = self.detector.add_device()
        devices = {slot: device for device, slot in self.slots.items()}
        joined = columns([r for r in readings if not r.sensors], self.slots)
        split = split_columns([r for r in readings if r.sensors], self.slots)
        found = rows(self.detector.feed(joined, split), devices)
        self.found += found
        return found

    def feed_in_pieces(self, readings: Sequence[Reading], cuts: Iterable[int]) -> list[Found]:
        bounds = sorted({0, len(readings), *(min(cut, len(readings)) for cut in cuts)})
        for begin, end in pairwise(bounds):
            self.feed(readings[begin:end])
        return self.found

    def replay_offset(self) -> int:
        """Offset from which some device still needs its readings, even if it is idle."""
        slots = np.array(list(self.slots.values()))
        point = self.detector.replay_point(slots, stream_ms=0)
        assert point is not None
        return point[0]


def by_device(found: Iterable[Found]) -> dict[int, list[Found]]:
    grouped: dict[int, list[Found]] = {}
    for step in found:
        grouped.setdefault(step[0], []).append(step)
    return grouped


def walk(
    count: int,
    *,
    device: int = 0,
    begin_us: int = EPOCH_US,
    rate_hz: float = 80.0,
    interval_s: float = 0.55,
    duration_s: float = 0.85,
) -> tuple[list[Reading], list[tuple[int, int]]]:
    """Readings in which ``count`` steps stand clearly, and their starts and ends.

    Offsets count from 0; stream time is the reading's own.
    """
    lead_s = 2.5
    ends_s = lead_s + np.arange(count) * interval_s
    times_s = np.arange(0, lead_s + count * interval_s + 1.5, 1 / rate_hz)

    def bumps(moments: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        distance = (times_s[:, None] - moments) / 0.03
        height: NDArray[np.float64] = 9.0 * np.exp(-0.5 * distance**2).max(axis=1)
        return height

    starts, ends = bumps(ends_s - duration_s), bumps(ends_s)
    readings = [
        Reading(
            device,
            begin_us + round(t * 1e6),
            (float(a), float(b), 0.0, 0.0, 0.0, 0.0),
            i,
            (begin_us + round(t * 1e6)) // 1000,
        )
        for i, (t, a, b) in enumerate(zip(times_s, starts, ends, strict=True))
    ]
    truth = [(begin_us + round((e - duration_s) * 1e6), begin_us + round(e * 1e6)) for e in ends_s]
    return readings, truth
