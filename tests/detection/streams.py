"""Random streams of readings: several devices, jitter, gaps, late ones, clocks set back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from stepstream.detection.rules import LONGEST_SPAN_MS
from tests.detection.builders import EPOCH_US, Reading

if TYPE_CHECKING:
    from collections.abc import Sequence


def message_span_ms(message: Sequence[Reading]) -> int:
    times_us = [r.time_us for r in message]
    return min((max(times_us) - min(times_us)) // 1000, LONGEST_SPAN_MS)


def _device(seed: int, device: int, pieces: list[tuple[str, int]]) -> list[Reading]:
    random = np.random.default_rng([seed, device])
    # Their other forms give the same numbers, and take ten times as long for each.
    normal, uniform = random.standard_normal, random.random
    rate_hz = float(random.choice([20.0, 50.0, 80.0, 100.0, 200.0]))
    time_us = EPOCH_US + int(random.integers(0, 10**7))
    stream_ms = EPOCH_US // 1000 + int(random.integers(0, 5000))
    readings: list[Reading] = []
    for kind, size in pieces:
        if kind == "gap":
            time_us += size * 10_000
            stream_ms += size * 10
        elif kind == "back":
            time_us -= size * 10_000_000
        elif kind == "quiet":
            stream_ms += size * 100
        if kind == "late" and readings:
            for earlier in readings[-size:]:
                readings.append(replace(earlier, stream_ms=stream_ms))
                stream_ms += 3
            continue
        for _ in range(size * 4):
            step_us = max(1, round(1e6 / rate_hz * (1.0 + 0.1 * normal())))
            time_us += step_us
            stream_ms += step_us // 1000
            first, second = uniform() < 0.06, uniform() < 0.06
            axes = (
                first * (5 + 4.5 * uniform()),
                second * (5 + 4.5 * uniform()),
                normal(),
                0.0,
                0.0,
                normal(),
            )
            readings.append(Reading(device, time_us, axes, 0, stream_ms))
    return readings


@dataclass(frozen=True)
class Stream:
    """What a random stream is made from; `readings` has them, interleaved, in order of arrival.

    Offsets count messages of 1 to 9 readings, or of hundreds of a device that uploads, with holes;
    stream time is the running maximum over all devices, as in a partition. Devices deliver in
    step, up to 2 s apart, or at random, in which case some are so slow in stream time that their
    windows grow too old.
    """

    seed: int
    devices: list[list[tuple[str, int]]]
    in_step: bool
    uploads: bool = False
    """Whether the first device uploads messages of some seconds."""

    @cached_property
    def readings(self) -> list[Reading]:
        devices = [_device(self.seed, d, pieces) for d, pieces in enumerate(self.devices)]
        random = np.random.default_rng(self.seed)
        merged: list[Reading] = []
        offset = int(random.integers(0, 1000))
        stream_ms = 0
        while any(devices):
            waiting = [queue for queue in devices if queue]
            if self.in_step:
                queue = min(waiting, key=lambda q: q[0].stream_ms + random.integers(0, 2000))
            else:
                queue = waiting[int(random.integers(len(waiting)))]
            size = int(random.integers(1, 10))
            if self.uploads and queue is devices[0]:
                size *= int(random.choice([1, 10, 100]))
            message, queue[:] = queue[:size], queue[size:]
            stream_ms = max(stream_ms, message[0].stream_ms)
            span_ms = message_span_ms(message)
            merged += [
                replace(r, offset=offset, stream_ms=stream_ms, span_ms=span_ms) for r in message
            ]
            offset += int(random.integers(1, 4))
        return merged


KINDS = st.sampled_from(["walk", "walk", "walk", "gap", "late", "back", "quiet"])
PIECES = st.lists(st.tuples(KINDS, st.integers(1, 130)), min_size=1, max_size=6)


LONG_WALK = st.tuples(st.just("walk"), st.integers(60, 130))
SHORT_GAP = st.tuples(st.just("gap"), st.integers(25, 125))
GAPPY = st.lists(
    st.one_of(st.tuples(LONG_WALK, SHORT_GAP), st.tuples(st.tuples(KINDS, st.integers(1, 60)))),
    min_size=2,
    max_size=5,
).map(lambda pieces: [one for piece in pieces for one in piece])
"""Mostly walks that are long enough for the gap after them to be bridged."""


def streams(*, in_step: bool) -> st.SearchStrategy[Stream]:
    """Streams of up to three devices."""
    return st.builds(
        Stream,
        st.integers(0, 2**32 - 1),
        st.lists(PIECES | GAPPY, min_size=1, max_size=3),
        st.just(in_step),
        st.booleans(),
    )
