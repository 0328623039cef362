"""What the consumer has done, in plain numbers that another thread may read at any time."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["STAGES", "Histogram", "Times", "Totals"]

MEASURED = 64
"""Messages of a poll and a partition whose times are kept, at most."""
MAX_PARTS = 1_000
"""Polls of a partition whose times are kept while they wait to be committed."""
STAGES = ("decode", "windows", "model", "publish")


class Histogram:
    """How many values are between bounds; one thread writes it.

    Parameters
    ----------
    bounds
        Upper bounds, ascending; a value belongs to the first bound that is not below it.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        """Number of values up to each bound and above the one before; the last has no bound."""
        self.total = 0.0
        """Sum of all values."""

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add_all(self, values: NDArray[np.float64], weight: int) -> None:
        """Count each value ``weight`` times."""
        places = np.searchsorted(self.bounds, values, "left")
        for place, count in Counter(places.tolist()).items():
            self.counts[place] += count * weight
        self.total += float(values.sum()) * weight


def _bounds(*bounds: float) -> Histogram:
    return Histogram(bounds)


def _batches() -> Histogram:
    return _bounds(1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000)


def _calls() -> Histogram:
    return _bounds(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)


def _commits() -> Histogram:
    return _bounds(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)


def _latencies() -> Histogram:
    return _bounds(0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 3_600)


def _latenesses() -> Histogram:
    return _bounds(
        0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600
    )  # fmt: skip


def _starts() -> Histogram:
    return _bounds(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass
class Totals:
    """What the consumer has done since it started.

    Attributes
    ----------
    messages, readings
        Messages processed, valid or not, and valid readings in them.
    replayed
        Messages that were read again to rebuild windows; not among the others.
    events, minutes, walks, dead_letters
        Records that were made to be published; the last by error code.
    devices_in_two_partitions
        Devices that had windows in two partitions of a topic at a time, each time that it began.
    polls, processing_s
        Polls that consumed messages, and the seconds for processing them.
    stage_s
        The seconds of each part of processing.
    batch_messages, batch_windows
        Messages of a poll, and windows that the model predicted together.
    inference_s
        Seconds of each run of the model.
    commits, aborts
        Commits that succeeded, and those that have to be repeated.
    commit_s
        Seconds of each commit, successful or not.
    reading_latency_s, broker_latency_s
        Seconds from a reading's own time, and from its record's time, to the commit of its message.
        They are measured for up to 64 messages of each poll and partition, which count for all.
    event_lateness_s
        Seconds from the record time of the message that completed a step to the commit of its
        event; of every event.
    rebalances
        Assignments, revocations and losses of partitions.
    start_s
        Seconds from a partition's assignment until it ran.
    """

    messages: int = 0
    readings: int = 0
    replayed: int = 0
    events: int = 0
    minutes: int = 0
    walks: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    devices_in_two_partitions: int = 0
    polls: int = 0
    processing_s: float = 0.0
    stage_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    batch_messages: Histogram = field(default_factory=_batches)
    batch_windows: Histogram = field(default_factory=_batches)
    inference_s: Histogram = field(default_factory=_calls)
    commits: int = 0
    aborts: int = 0
    commit_s: Histogram = field(default_factory=_commits)
    reading_latency_s: Histogram = field(default_factory=_latencies)
    broker_latency_s: Histogram = field(default_factory=_latencies)
    event_lateness_s: Histogram = field(default_factory=_latenesses)
    rebalances: Counter[str] = field(default_factory=Counter)
    start_s: Histogram = field(default_factory=_starts)


class Times:
    """Times of what is not committed yet: of some messages, which count for all, and of events."""

    def __init__(self) -> None:
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], int]] = []
        self._events: list[NDArray[np.int64]] = []

    def note(self, reading_us: NDArray[np.int64], record_ms: NDArray[np.int64]) -> None:
        """Note messages of one poll: times of their newest readings, and of their records."""
        weight = -(-len(reading_us) // MEASURED)
        if weight:
            self._parts.append((reading_us[::weight], record_ms[::weight], weight))

    def note_events(self, record_ms: NDArray[np.int64]) -> None:
        """Note events of one poll: the record times of the messages that completed their steps."""
        self._events.append(record_ms)

    def add(self, later: Times) -> None:
        """Add the times of later polls, as long as there is room."""
        self._parts += later._parts[: MAX_PARTS - len(self._parts)]
        self._events += later._events[: MAX_PARTS - len(self._events)]

    def measure(self, totals: Totals, now_s: float) -> None:
        """Count their latency and lateness, now that they are committed."""
        for reading_us, record_ms, weight in self._parts:
            totals.reading_latency_s.add_all(np.maximum(0, now_s - reading_us / 1e6), weight)
            totals.broker_latency_s.add_all(np.maximum(0, now_s - record_ms / 1e3), weight)
        for completed_ms in self._events:
            totals.event_lateness_s.add_all(np.maximum(0, now_s - completed_ms / 1e3), 1)
