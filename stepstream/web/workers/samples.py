"""How all workers are doing together, second by second, for the page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

import msgspec

from stepstream.web.workers.clients import ask_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stepstream.web.timeline import Timeline
    from stepstream.web.workers.clients import Client
    from stepstream.workers.supervisor import Supervisor

__all__ = ["MergedSamples", "merge_samples", "merge_states"]

INTERVAL_S = 1.0
HISTORY = 300
"""Samples that are kept: five minutes."""
SUMMED = (
    "readings", "events", "messages", "dead_letters", "late", "commits", "aborts", "cpu", "lag",
    "memory", "devices", "outbox",
)  # fmt: skip
"""Rates and counts; of all else the largest counts: percentiles, means, and the busiest loop."""
STATE_SUMMED = ("readings", "events", "commits", "aborts", "timeline")
STATE_LARGEST = ("uptime_s", "memory_limit")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def _largest(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def merge_samples(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One sample for those that several workers took at about the same time."""
    return {
        name: sum(sample[name] for sample in samples)
        if name in SUMMED
        else _largest([sample[name] for sample in samples])
        for name in samples[0]
    }


def merge_states(
    states: Mapping[int, Mapping[str, Any]], obstacles: Mapping[int, Sequence[str]]
) -> dict[str, Any]:
    """One state for those of several workers.

    Parameters
    ----------
    states
        Of each worker that answers.
    obstacles
        What keeps each worker from being ready.
    """
    if not states:
        return {"obstacles": _listed(obstacles) or ["no worker answers"]}
    first = next(iter(states.values()))
    letters: Counter[str] = Counter()
    for state in states.values():
        letters.update(state["dead_letters"])
    partitions = [
        {**partition, "worker": worker}
        for worker, state in states.items()
        for partition in state["partitions"]
    ]
    return {
        **first,
        "obstacles": _listed(obstacles),
        "consumers": [
            {**one, "worker": worker}
            for worker, state in states.items()
            for one in state["consumers"]
        ],
        "warnings": sorted({text for state in states.values() for text in state["warnings"]}),
        # They differ while a new model is being taken.
        "model": ", ".join(sorted({state["model"] for state in states.values()})),
        "partitions": sorted(partitions, key=lambda p: (p["topic"], p["partition"])),
        "dead_letters": dict(sorted(letters.items())),
        **{name: sum(state[name] for state in states.values()) for name in STATE_SUMMED},
        **{name: _largest([s[name] for s in states.values()]) for name in STATE_LARGEST},
    }


def _listed(obstacles: Mapping[int, Sequence[str]]) -> list[str]:
    return [f"worker {n}: {text}" for n, texts in obstacles.items() for text in texts]


class MergedSamples:
    """Asks all workers for their samples once a second, and keeps those of the last minutes.

    Parameters
    ----------
    clients
        The workers.
    supervisor
        Knows how they are.
    timeline
        What happened in the parent's own process.
    """

    def __init__(
        self, clients: Sequence[Client], supervisor: Supervisor, timeline: Timeline
    ) -> None:
        self._clients = clients
        self._supervisor = supervisor
        self._timeline = timeline
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY)
        self.state: dict[str, Any] = {}
        self.taken = asyncio.Event()
        """Set and replaced with each sample."""

    async def run(self) -> None:
        """Take samples until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            await self.take()

    async def take(self) -> None:
        """Take a sample; if no worker has one, there is only the state."""
        answers = await ask_all(self._clients, "/performance/sample", timeout_s=INTERVAL_S)
        bodies = {a.worker: _decode(a.body) for a in answers if a.status == 200}
        found = {worker: body for worker, body in bodies.items() if body["sample"] is not None}
        if found:
            sample = merge_samples([body["sample"] for body in found.values()])
            self.history.append({**sample, "time": time.time()})
        states = {worker: body["state"] for worker, body in found.items()}
        self.state = merge_states(states, self._supervisor.obstacles())
        if found:
            self.state["timeline"] += self._timeline.last
        taken, self.taken = self.taken, asyncio.Event()
        taken.set()
