"""Cost and memory for several numbers of devices; two consumers and two workers beside one."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from typing import Any

from benchmarks.harness import (
    DEADLINE_S,
    PARTITIONS,
    RATE_HZ,
    Process,
    Progress,
    add_results,
    children,
    cpu_s,
    running_broker,
    save,
    spread,
    wait_for_members,
)
from benchmarks.inputs import Filler, Fleet, Loaded, for_one_run
from benchmarks.systems import STEPSTREAM
from tests.kafka.builders import TopicSet

DEVICES = (10, 100, 1_000, 10_000, 100_000)
FULL_S = 1.7
"""Input after which a device's window is full."""
READINGS = 1_600_000
LEAST_READINGS = 32
"""Single readings of each device, at least: four hops."""
CONSUMERS = {"1": (1, 1), "2": (2, 1), "2 workers": (1, 2)}
"""How many consumers are processes of their own, and how many workers each of them has."""
SECONDS = 25.0
SAMPLE_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    parser.add_argument("--devices", nargs="*", type=int, default=DEVICES)
    add_results(parser)
    options = parser.parse_args()
    with running_broker() as bootstrap:
        by_devices = {
            devices: measure_devices(bootstrap, devices, options.share, options.rounds)
            for devices in options.devices
        }
        by_consumers = measure_consumers(bootstrap, SECONDS * options.share, options.rounds)
    results = {"devices": by_devices, "consumers": by_consumers}
    save("scaling", {"input": Fleet(1, 1.0).origin, **results}, options.results)


def measure_devices(bootstrap: str, devices: int, share: float, rounds: int) -> dict[str, Any]:
    """Cost of single readings of this many devices, when their windows are full."""
    each = max(LEAST_READINGS, round(READINGS * share / devices))
    filling = Fleet(devices, FULL_S)
    fleet = Fleet(devices, each / RATE_HZ, begin_s=FULL_S)
    epoch_s = int(time.time() - FULL_S - fleet.seconds) - 60
    full = fill(bootstrap, epoch_s, (filling, round(FULL_S * RATE_HZ)), (fleet, 1))
    begin = fill(bootstrap, epoch_s, (filling, round(FULL_S * RATE_HZ)))
    us, resident = [], []
    for _ in range(rounds):
        # The readings that fill the windows cost the same with and without later readings.
        before = STEPSTREAM.run(for_one_run(begin.topics), begin.messages)
        run = STEPSTREAM.run(for_one_run(full.topics), full.messages)
        us.append((run.cpu_s - before.cpu_s) / fleet.readings * 1e6)
        resident.append(run.resident_mib)
        print(
            f"{devices:>7,} devices: {us[-1]:.2f} us a reading, {resident[-1]:.0f} MiB", flush=True
        )
    for loaded in (full, begin):
        loaded.topics.delete()
    return {"us_a_reading": spread(us), "resident_mib": spread(resident)}


def fill(bootstrap: str, epoch_s: int, *parts: tuple[Fleet, int]) -> Loaded:
    """A topic with the messages of fleets, one after the other, each with its batch size."""
    topics = TopicSet.create(bootstrap, PARTITIONS)
    with Filler(topics) as filler:
        for fleet, batch in parts:
            for _, number, key, value in fleet.messages(epoch_s, batch):
                filler.add(number, key, value)
    filler.check()
    return Loaded(topics, filler.count, sum(fleet.readings for fleet, _ in parts), epoch_s)


def measure_consumers(bootstrap: str, seconds: float, rounds: int) -> dict[str, Any]:
    """The same backlog for one consumer, for two, and for two workers, alternating."""
    fleet = Fleet(1_000, seconds)
    per_s: dict[str, list[float]] = {name: [] for name in CONSUMERS}
    per_cpu_s: dict[str, list[float]] = {name: [] for name in CONSUMERS}
    for _ in range(rounds):
        for name, (count, workers) in CONSUMERS.items():
            wall_s, used_s = drain(bootstrap, fleet, count, workers)
            per_s[name].append(fleet.readings / wall_s)
            per_cpu_s[name].append(fleet.readings / used_s)
            print(
                f"consumers: {name}: {per_s[name][-1]:,.0f} readings/s, "
                f"{per_cpu_s[name][-1]:,.0f} readings/CPU-s",
                flush=True,
            )
    return {n: {"per_s": spread(per_s[n]), "per_cpu_s": spread(per_cpu_s[n])} for n in CONSUMERS}


def drain(bootstrap: str, fleet: Fleet, count: int, workers: int) -> tuple[float, float]:
    """Seconds and CPU seconds in which running processes, each with workers, drain a backlog.

    The backlog is written in a transaction, which is committed when each consumer has its share of
    the partitions. So neither their start nor their rebalances count.
    """
    topics = TopicSet.create(bootstrap, PARTITIONS)
    filler = Filler(topics, transaction=True)
    for _, number, key, value in fleet.messages(int(time.time() - fleet.seconds) - 60):
        filler.add(number, key, value)
    filler.flush()
    with ExitStack() as stack, Progress(topics) as progress:
        processes = [
            stack.enter_context(Process(STEPSTREAM.prepare(), environment))
            for environment in environments(topics, count, workers)
        ]
        members = count * workers
        wait_for_members(topics, [PARTITIONS // members] * members)
        pids = [pid for process in processes for pid in (process.pid, *children(process.pid))]
        begin_cpu_s = sum(map(cpu_s, pids))
        filler.commit()
        begin_s = time.monotonic()
        while progress.total() < filler.count:
            for process in processes:
                process.check()
            if time.monotonic() - begin_s > DEADLINE_S:
                raise RuntimeError(f"{progress.total()} of {filler.count} messages")
            time.sleep(SAMPLE_S)
        wall_s = time.monotonic() - begin_s
        used_s = sum(map(cpu_s, pids)) - begin_cpu_s
        for process in processes:
            process.end()
    topics.delete()
    return wall_s, used_s


def environments(topics: TopicSet, count: int, workers: int) -> list[dict[str, str]]:
    """Environments of processes of one group: each has a transactional id of its own."""
    name = "STEPSTREAM_KAFKA__TRANSACTIONAL_ID"
    return [
        {
            **STEPSTREAM.environment_for(topics),
            name: f"{topics.group}-{number}",
            "STEPSTREAM_WORKERS": str(workers),
        }
        for number in range(count)
    ]


if __name__ == "__main__":
    main()
