"""The detector's rules again, written reading by reading and sample by sample.

It is slow and has no state between calls. The detector, which uses columns, must give the same.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from functools import cache
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.resampling import scale_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.detection import ModelMetadata, Rules
    from tests.detection.builders import Found, Reading, TransparentModel

WINDOW, HOP, DELAY, PERIOD_US = 128, 8, 24, 12_500
LONGEST_INTERPOLATED_US = 250_000
SHORTEST_LAG, LONGEST_LAG, COMPARED, CHANGE = 32, 96, 24, 12


class _Window:
    def __init__(self, reading: Reading, history_hops: int) -> None:
        self.last = reading
        self.history_hops = history_hops
        self.times_us = [reading.time_us]
        self.stream_ms = [reading.stream_ms]
        self.first = -(-reading.time_us // PERIOD_US)
        self.samples: dict[int, np.ndarray] = {}
        self.starts: dict[int, float] = defaultdict(float)
        self.ends: dict[int, float] = defaultdict(float)
        self.whole_after_us = reading.time_us
        self.bridges: list[tuple[range, int]] = []
        if reading.time_us % PERIOD_US == 0:
            self.samples[self.first] = np.array(reading.axes, np.float32)

    def extend(self, reading: Reading) -> list[int]:
        before, self.last = self.last, reading
        self.times_us.append(reading.time_us)
        self.stream_ms.append(reading.stream_ms)
        added = range(before.time_us // PERIOD_US + 1, reading.time_us // PERIOD_US + 1)
        if added:
            a, b = np.array(before.axes, np.float32), np.array(reading.axes, np.float32)
        for k in added:
            share = np.float32(k * PERIOD_US - before.time_us) / np.float32(
                reading.time_us - before.time_us
            )
            self.samples[k] = a + (b - a) * share
        if reading.time_us - before.time_us > LONGEST_INTERPOLATED_US:
            self._bridge([k for k in added if k * PERIOD_US < reading.time_us])
            hops = range(_repeated_hop(before), reading.time_us // (HOP * PERIOD_US) + 1)
            self.bridges.append((hops, self._base_ms(hops[0])))
            self.whole_after_us = reading.time_us
        return list(added)

    def _bridge(self, places: list[int]) -> None:
        def acceleration(begin: int, count: int = COMPARED) -> np.ndarray:
            compared = np.array([self.samples[begin + i] for i in range(count)])
            return scale_channels(compared, 10.0, 2.0)[:, 6]

        before = acceleration(places[0] - LONGEST_LAG - COMPARED, LONGEST_LAG + COMPARED)
        before = before.astype(np.float64)
        if np.square(before[CHANGE:] - before[:-CHANGE]).mean() <= 1.5 * before.var():
            return
        last = acceleration(places[0] - COMPARED)
        lags = range(LONGEST_LAG, SHORTEST_LAG - 1, -1)
        best = min(
            lags,
            key=lambda lag: np.square(acceleration(places[0] - COMPARED - lag) - last).sum(),
        )
        for k in places:
            self.samples[k] = self.samples[k - best]

    def can_bridge(self) -> bool:
        return _repeated_hop(self.last) * HOP * PERIOD_US > self.whole_after_us

    def needed_ms(self) -> int:
        next_hop = (self.last.time_us // PERIOD_US + 1) // HOP
        hop = max(self.first // HOP, next_hop - self.history_hops)
        return next((base for hops, base in self.bridges if hop in hops), self._base_ms(hop))

    def _base_ms(self, hop: int) -> int:
        return self.stream_ms[max(0, bisect_left(self.times_us, hop * HOP * PERIOD_US) - 1)]


def _repeated_hop(last: Reading) -> int:
    return (last.time_us // PERIOD_US + 1 - LONGEST_LAG - COMPARED) // HOP


def history_hops(metadata: ModelMetadata) -> int:
    """Hops on which a step depends, but for the newest."""
    back = max(metadata.longest_step, metadata.supporting) + metadata.refractory + metadata.waiting
    return -(-back // HOP) + WINDOW // HOP


def detect(readings: Sequence[Reading], model: TransparentModel, rules: Rules) -> list[Found]:
    """Steps of one device."""
    found: list[Found] = []
    window: _Window | None = None
    for reading in readings:
        if window is None or _opens(window, window.last, reading, rules):
            window = _Window(reading, history_hops(model.metadata))
            continue
        if reading.time_us <= window.last.time_us:
            continue
        for k in window.extend(reading):
            if k % HOP == HOP - 1 and k - DELAY - HOP + 1 >= window.first:
                found += _predict(window, k, reading, model)
    return found


def _opens(window: _Window, last: Reading, reading: Reading, rules: Rules) -> bool:
    pause_us = reading.time_us - last.time_us
    silence_ms = rules.idle_timeout_ms + last.span_ms
    return (
        reading.stream_ms - last.stream_ms > silence_ms
        or (
            reading.stream_ms > last.stream_ms
            and reading.stream_ms - window.needed_ms() > silence_ms + 10_000
        )
        or reading.time_us < last.time_us - rules.max_lateness_us
        or pause_us > rules.max_gap_us
        or (pause_us > LONGEST_INTERPOLATED_US and not window.can_bridge())
    )


def _predict(window: _Window, k: int, reading: Reading, model: TransparentModel) -> list[Found]:
    # The network gets nothing from before the window's first whole hop.
    begin = max(k - WINDOW + 1, -(-window.first // HOP) * HOP)
    axes = np.array([window.samples[i] for i in range(begin, k + 1)])
    metadata = model.metadata
    channels = scale_channels(axes, metadata.accel_scale, metadata.gyro_scale)
    window_of = np.zeros((1, WINDOW, 8), np.float32)
    window_of[0, WINDOW - len(axes) :] = channels
    given = model.predict_windows(window_of)[0].astype(np.float16)
    for i, (p_start, p_end) in enumerate(given.astype(float).tolist()):
        window.starts[k - DELAY - HOP + 1 + i] = p_start
        window.ends[k - DELAY - HOP + 1 + i] = p_end
    first_given = min(window.starts)
    start, end = window.starts.__getitem__, window.ends.__getitem__

    least = metadata.walking_threshold or metadata.end_threshold
    longest, shortest = metadata.longest_step, metadata.shortest_step

    @cache
    def is_peak(i: int) -> bool:
        return (
            end(i) >= least
            and all(end(i) > end(j) for j in range(i - metadata.refractory, i))
            and all(end(i) >= end(j) for j in range(i + 1, i + metadata.settling + 1))
        )

    def start_of(e: int) -> int:
        before = [i for i in range(e - longest, e) if is_peak(i)]
        begin = max(before[-1] - shortest + 1, e - longest) if before else e - longest
        return max(range(begin, e - shortest + 1), key=lambda i: (start(i), -i))

    def is_end(e: int) -> bool:
        return start(start_of(e)) >= metadata.start_threshold and (
            _is_supported(metadata, e, end, is_peak)
            if metadata.support
            else any(
                is_peak(i) and end(i) >= metadata.end_threshold for i in range(e - longest, e + 1)
            )
        )

    def waits(i: int, e: int) -> bool:
        later = [j for j in range(i + 1, e) if is_peak(j)]
        return (
            (later or [e])[0] - i >= metadata.refractory
            and start(start_of(i)) > 0
            and not any(map(is_end, [i, *later]))
        )

    steps = []
    searched = range(k - DELAY - 2 * HOP + 1, k - DELAY - HOP + 1)
    for e in searched:
        if e < first_given or not is_peak(e) or not is_end(e):
            continue
        waiting = [i for i in range(e - metadata.waiting, e) if is_peak(i) and waits(i, e)]
        for i in [*waiting, e]:
            s = start_of(i)
            first = _centre(start, s, *metadata.start_reach)
            last = _centre(end, i, *metadata.end_reach)
            steps.append(
                (
                    reading.device,
                    first * PERIOD_US,
                    last * PERIOD_US,
                    start(s),
                    _calibrated(end(i), *metadata.end_calibration),
                    reading.offset,
                )
            )
    return steps


def _centre(probability: Callable[[int], float], place: int, before: int, after: int) -> int:
    reach = range(-before, after + 1)
    weights = [probability(place + i) ** 2 for i in reach]
    return place + round(sum(w * i for w, i in zip(weights, reach, strict=True)) / sum(weights))


def _calibrated(probability: float, slope: float, offset: float) -> float:
    if probability >= 1:
        return 1.0
    log_odds = slope * log(probability / (1 - probability)) + offset
    return float(np.float32(1 / (1 + exp(-log_odds))))


def _is_supported(
    metadata: ModelMetadata, e: int, end: Callable[[int], float], is_peak: Callable[[int], bool]
) -> bool:
    others = [i for i in range(e - 1, e - metadata.supporting - 1, -1) if is_peak(i)]
    total = end(e)
    for weight, other in zip(metadata.support, others, strict=False):
        total += weight * end(other)
    return total >= metadata.end_threshold
