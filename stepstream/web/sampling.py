"""Figures of the consumer, second by second, for the page."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from stepstream import __version__
from stepstream.memory_limit import memory_limit_bytes

if TYPE_CHECKING:
    from stepstream.settings import Settings
    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.totals import Histogram
    from stepstream.web.timeline import Timeline

__all__ = ["Sampler"]

INTERVAL_S = 1.0
HISTORY = 300
"""Samples that are kept: five minutes."""
SPREAD_OVER = 10
"""Percentiles are computed from this many seconds."""
MAX_WARNINGS = 20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class _Spread:
    """Mean and percentiles of a histogram's last seconds.

    Parameters
    ----------
    histogram
        It grows while this is used.
    """

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._past: deque[tuple[list[int], float]] = deque(maxlen=SPREAD_OVER + 1)
        self.turn()

    def turn(self) -> None:
        """Begin another second."""
        self._past.append((list(self._histogram.counts), self._histogram.total))

    def read(self, *shares: float) -> list[float | None]:
        """The mean, then the percentile for each share; None if there was nothing."""
        (old, old_total), (new, new_total) = self._past[0], self._past[-1]
        counts = [after - before for after, before in zip(new, old, strict=True)]
        count = sum(counts)
        if not count:
            return [None] * (1 + len(shares))
        percentiles = (self._percentile(counts, share * count) for share in shares)
        return [(new_total - old_total) / count, *percentiles]

    def _percentile(self, counts: list[int], rank: float) -> float:
        """Estimated as in PromQL: values are spread evenly between the bounds."""
        bounds = self._histogram.bounds
        below = 0
        for place, count in enumerate(counts[:-1]):
            if count and below + count >= rank:
                low = bounds[place - 1] if place else 0.0
                return low + (bounds[place] - low) * (rank - below) / count
            below += count
        return bounds[-1]


class Sampler:
    """Makes a sample a second, and keeps the samples of the last minutes.

    Parameters
    ----------
    settings
        All settings.
    consumer
        The consumer that is observed.
    timeline
        Told each second how the consumer is.
    """

    def __init__(self, settings: Settings, consumer: Consumer, timeline: Timeline) -> None:
        self._settings = settings
        self._consumer = consumer
        self._timeline = timeline
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.state: dict[str, Any] = {}
        """Values without a history: partitions, dead letters, model, and why it is not ready."""
        self.taken = asyncio.Event()
        """Set and replaced with each sample."""
        totals = consumer.totals
        self._batches = _Spread(totals.batch_messages)
        self._inference = _Spread(totals.inference_s)
        self._broker = _Spread(totals.broker_latency_s)
        self._reading = _Spread(totals.reading_latency_s)
        self._commits = _Spread(totals.commit_s)
        self._began_s = time.monotonic()
        self._last_s = self._began_s
        self._last: dict[str, float] = self._counters()
        self._memory_limit = memory_limit_bytes()

    async def run(self) -> None:
        """Make a sample a second until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.take()
            taken, self.taken = self.taken, asyncio.Event()
            taken.set()

    def take(self) -> None:
        """Make a sample."""
        now_s = time.monotonic()
        now = self._counters()
        elapsed_s = max(1e-3, now_s - self._last_s)
        rates = {name: (now[name] - self._last[name]) / elapsed_s for name in now}
        self._last_s, self._last = now_s, now
        spreads = (self._batches, self._inference, self._broker, self._reading, self._commits)
        for spread in spreads:
            spread.turn()
        (batch,) = self._batches.read()
        inference, inference_p95 = self._inference.read(0.95)
        commit, commit_p95 = self._commits.read(0.95)
        _, broker_p50, broker_p95 = self._broker.read(0.5, 0.95)
        _, reading_p50, reading_p95 = self._reading.read(0.5, 0.95)
        partitions = [self._partition(partition) for partition in self._consumer.assignment.owned]
        self.history.append(
            {
                "time": time.time(),
                **{name: round(rate, 4) for name, rate in rates.items()},
                "batch": batch,
                "inference": inference,
                "inference_p95": inference_p95,
                "commit": commit,
                "commit_p95": commit_p95,
                "broker_p50": broker_p50,
                "broker_p95": broker_p95,
                "reading_p50": reading_p50,
                "reading_p95": reading_p95,
                "lag": sum(partition["lag"] or 0 for partition in partitions),
                "lag_s": max((partition["lag_s"] or 0 for partition in partitions), default=0),
                "memory": _resident_bytes(),
                "devices": self._consumer.processor.detector.device_count,
                "outbox": self._consumer.commits.records,
            }
        )
        obstacles = self._consumer.health.obstacles
        self._timeline.look(partitions, obstacles)
        self.state = self._state(partitions, obstacles)

    def _counters(self) -> dict[str, float]:
        totals = self._consumer.totals
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "readings": totals.readings,
            "events": totals.events,
            "messages": totals.messages,
            "dead_letters": totals.dead_letters.total(),
            "late": self._consumer.processor.counters.late_readings,
            "commits": totals.commits,
            "aborts": totals.aborts,
            "busy": totals.processing_s,
            "cpu": usage.ru_utime + usage.ru_stime,
        }

    def _state(self, partitions: list[dict[str, Any]], obstacles: list[str]) -> dict[str, Any]:
        consumer, settings = self._consumer, self._settings
        totals = consumer.totals
        limit = self._memory_limit
        return {
            "obstacles": obstacles,
            "consumers": [
                {
                    "name": settings.kafka.effective_transactional_id(),
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "member_id": consumer.membership.member_id,
                }
            ],
            "timeline": self._timeline.last,
            "warnings": self._warnings(),
            "version": __version__,
            "model": consumer.model.metadata.label,
            "group": settings.kafka.group_id,
            "topics": sorted(consumer.subscription.names),
            "guarantee": settings.processing.guarantee,
            "uptime_s": time.monotonic() - self._began_s,
            "memory_limit": limit if limit == limit else None,  # noqa: PLR0124 - not a number
            "partitions": sorted(partitions, key=lambda p: (p["topic"], p["partition"])),
            "dead_letters": {code: n for code, n in sorted(totals.dead_letters.items()) if n},
            "readings": totals.readings,
            "events": totals.events,
            "commits": totals.commits,
            "aborts": totals.aborts,
        }

    def _warnings(self) -> list[str]:
        """What somebody should look at, though the consumer can work."""
        refused = self._consumer.subscription.refused
        return [
            *(f"topic {name} isn't read: {text}" for name, text in sorted(refused.items())),
            *self._consumer.processor.doubts.texts,
        ][:MAX_WARNINGS]

    @staticmethod
    def _partition(partition: Partition) -> dict[str, Any]:
        lag_ms = partition.lag_ms(time.time_ns() // 1_000_000)
        return {
            "topic": partition.topic,
            "partition": partition.number,
            "state": "held" if partition.is_held else partition.phase.name.lower(),
            "lag": partition.lag_messages,
            "lag_s": None if lag_ms is None else lag_ms / 1000,
            "offset": partition.next_offset,
            "committed": partition.committed_offset,
            "devices": len(partition.slots),
        }


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - a file of the kernel
        return int(statm.read().split()[1]) * PAGE_BYTES
