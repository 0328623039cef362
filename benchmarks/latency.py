"""Time from the reading that completes a step until a subscriber has its event, at a fixed rate.

Readings are sent at times that are fixed in advance and don't depend on the consumer: a pause of
100 ms delays every event in it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.harness import (
    DEADLINE_S,
    PARTITIONS,
    RATE_HZ,
    Process,
    Progress,
    add_results,
    running_broker,
    save,
    wait_for_members,
)
from benchmarks.inputs import Fleet
from benchmarks.sender import sent, started_sender
from benchmarks.systems import BYTEWAX, KAFKA_STREAMS, LOOP, QUIX, STEPSTREAM
from tests.kafka.builders import TopicSet, wait_until

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from benchmarks.systems import System

TOP_RATE = {STEPSTREAM: 20_000, KAFKA_STREAMS: 20_000, BYTEWAX: 20_000, QUIX: 5_000, LOOP: 5_000}
"""Largest rate for a system: above it, the latency would only measure the backlog."""
RATES = (5_000, 20_000)
WARM_UP_S = 10
"""Events of readings before this second don't count: windows fill, a virtual machine warms up."""
QUIET_S = 2.0
PERCENTILES = (50, 90, 99, 99.9, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30, help="after the warm-up")
    parser.add_argument("--only", nargs="*", help="names of systems")
    parser.add_argument("--rates", nargs="*", type=int, default=RATES)
    add_results(parser)
    options = parser.parse_args()
    systems = [s for s in TOP_RATE if not options.only or s.name in options.only]
    for system in systems:
        system.prepare()
    results: dict[str, dict[str, Any]] = {}
    with running_broker() as bootstrap:
        for rate in options.rates:
            devices = round(rate / RATE_HZ / 25) * 25
            fleet = Fleet(devices, WARM_UP_S + options.seconds)
            for system in systems:
                if rate <= TOP_RATE[system]:
                    result = measure(bootstrap, system, fleet)
                    results.setdefault(str(rate), {})[system.name] = result
                    show(rate, system.name, result)
        # One device alone is a low load.
        if STEPSTREAM in systems:
            alone = Fleet(1, WARM_UP_S + max(60.0, options.seconds))
            results["80"] = {STEPSTREAM.name: measure(bootstrap, STEPSTREAM, alone)}
            show(80, STEPSTREAM.name, results["80"][STEPSTREAM.name])
    save("latency", {"input": fleet.origin, "rates": results}, options.results)


def show(rate: int, name: str, result: dict[str, Any]) -> None:
    """Print a result."""
    figures = ", ".join(f"{key} {value:.0f}" for key, value in result["arrival_ms"].items())
    print(
        f"{rate:>6,}/s  {name:<22} {result['events']:>6} events, ms from arrival: {figures}; "
        f"sender at most {result['behind_ms']:.0f} ms behind; {result['resident_mib']:.0f} MiB",
        flush=True,
    )


def measure(bootstrap: str, system: System, fleet: Fleet) -> dict[str, Any]:
    """Run a system and a sender; the figures that a subscriber has seen."""
    topics = TopicSet.create(bootstrap, PARTITIONS)
    with Process(system.prepare(), system.environment_for(topics)) as process:
        if not system.ends_itself:
            wait_for_members(topics)
        with started_sender(topics, fleet) as (sender, epoch_s):
            seen = subscribe(topics, system, process, epoch_s + fleet.seconds)
            report = sent(sender)
        if not system.ends_itself:
            with Progress(topics) as progress:
                wait_until("the end", lambda: progress.total() >= report["sent"], DEADLINE_S)
        resident_mib = process.resident_mib
        process.end()
    arrived, planned = times(topics, set(seen), epoch_s + WARM_UP_S)
    after = [np.array([at[place], seen[place]]) for at in (arrived, planned) for place in at]
    arrival, plan = np.split(np.array(after), 2)
    topics.delete()
    return {
        "events": len(arrival),
        "guarantee": system.guarantee,
        "arrival_ms": percentiles(arrival[:, 1] - arrival[:, 0]),
        "plan_ms": percentiles(plan[:, 1] - plan[:, 0]),
        "curve": curve(arrival[:, 1] - arrival[:, 0]),
        "behind_ms": report["behind_ms"],
        "resident_mib": resident_mib,
    }


def subscribe(
    topics: TopicSet, system: System, process: Process, until_s: float
) -> dict[tuple[int, int], float]:
    """When each event was seen, ms since the epoch, by the partition and offset in its id."""
    subscriber = Consumer(
        {
            "bootstrap.servers": topics.bootstrap,
            "group.id": f"{topics.group}-subscriber",
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
        }
    )
    subscriber.assign([TopicPartition(topics.events, p, 0) for p in range(PARTITIONS)])
    polled: list[tuple[float, bytes]] = []
    last_s = until_s
    while time.time() < max(until_s, last_s) + QUIET_S:
        message = subscriber.poll(0.05)
        if message is not None and message.error() is None:
            last_s = time.time()
            polled.append((last_s * 1000, message.value() or b""))
        process.check()
    subscriber.close()
    seen: dict[tuple[int, int], float] = {}
    for now_ms, value in polled:
        _, partition, offset, _ = json.loads(value)["event_id"].rsplit("-", 3)
        seen.setdefault((int(partition), int(offset)), now_ms)
    if not seen:
        raise RuntimeError(f"{system.name}: no events")
    return seen


def times(
    topics: TopicSet, wanted: set[tuple[int, int]], since_s: float
) -> tuple[dict[tuple[int, int], float], dict[tuple[int, int], float]]:
    """When the broker appended readings, and when they were due; in milliseconds."""
    arrived, planned = {}, {}
    reader = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": "times"})
    reader.assign([TopicPartition(topics.readings, p, 0) for p in range(PARTITIONS)])
    left = sum(topics.end_offsets(topics.readings).values())
    while left:
        messages = reader.consume(min(10_000, left), 10)
        if not messages:
            raise RuntimeError("the readings can't be read again")
        left -= len(messages)
        for message in messages:
            place = (message.partition() or 0, message.offset() or 0)
            if place in wanted:
                due_s = json.loads(message.value() or b"")["timestamp"]
                if due_s >= since_s:
                    arrived[place] = float(message.timestamp()[1])
                    planned[place] = due_s * 1000
    reader.close()
    return arrived, planned


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """The usual percentiles."""
    found = np.percentile(values, PERCENTILES).tolist()
    names = [f"p{p:g}" for p in PERCENTILES[:-1]] + ["max"]
    return {name: round(value, 1) for name, value in zip(names, found, strict=True)}


def curve(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Percentiles at equal steps of the number of nines, as in a picture of an HDR histogram."""
    nines = np.linspace(0, math.log10(len(values)), 60)
    shares = 1 - 10.0**-nines
    found = np.quantile(values, shares)
    return [(round(n, 3), round(v, 1)) for n, v in zip(nines.tolist(), found.tolist(), strict=True)]


if __name__ == "__main__":
    main()
