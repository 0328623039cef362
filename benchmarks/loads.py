"""Low load, the start, and more input than a consumer can process."""

from __future__ import annotations

import argparse
import time
from typing import Any

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
    spread,
    wait_for_members,
)
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.sender import sent, started_sender
from benchmarks.systems import STEPSTREAM
from tests.kafka.builders import TopicSet, wait_until

IDLE_S = 20.0
SETTLE_S = 3.0
BATCH = 10
"""Readings in a message under overload: large enough that the sender isn't overloaded."""
OVERLOAD = 1.5
"""Input as a multiple of the rate at which the consumer processes a backlog."""
LOW = 0.5
LOW_S = 20.0
"""Load and time before and after the overload."""
SAMPLE_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of starts")
    parser.add_argument("--seconds", type=float, default=120, help="of overload")
    add_results(parser)
    options = parser.parse_args()
    with running_broker() as bootstrap:
        results = {
            "idle": measure_idle(bootstrap),
            "first_event_s": measure_starts(bootstrap, options.rounds),
            "overload": measure_overload(bootstrap, options.seconds),
        }
    save("loads", {"input": Fleet(1, 1.0).origin, **results}, options.results)


def measure_idle(bootstrap: str) -> dict[str, float]:
    """Share of a core that a consumer uses with nothing to do, and with one device."""
    topics = TopicSet.create(bootstrap, PARTITIONS)
    with Process(STEPSTREAM.prepare(), STEPSTREAM.environment_for(topics)) as process:
        wait_for_members(topics)
        time.sleep(SETTLE_S)
        shares = {"nothing": share_of_core(process)}
        with started_sender(topics, Fleet(1, IDLE_S + 2 * SETTLE_S)) as (sender, epoch_s):
            time.sleep(max(0.0, epoch_s + SETTLE_S - time.time()))
            shares["one device"] = share_of_core(process)
            sent(sender)
        process.end()
    for what, share in shares.items():
        print(f"{what}: {share:.2%} of a core", flush=True)
    return shares


def share_of_core(process: Process) -> float:
    """CPU time over time."""
    begin_s, begin_cpu_s = time.monotonic(), process.cpu_s
    time.sleep(IDLE_S)
    return (process.cpu_s - begin_cpu_s) / (time.monotonic() - begin_s)


def measure_starts(bootstrap: str, rounds: int) -> dict[str, float]:
    """Seconds from the start of the process to its first event, as a new group with a backlog."""
    loaded = load(bootstrap, Fleet(100, 10.0))
    found = []
    for _ in range(rounds):
        topics = for_one_run(loaded.topics)
        subscriber = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"{topics.group}-subscriber",
                "isolation.level": "read_committed",
            }
        )
        subscriber.assign([TopicPartition(topics.events, p, 0) for p in range(PARTITIONS)])
        subscriber.poll(0.1)
        with Process(STEPSTREAM.prepare(), STEPSTREAM.environment_for(topics)) as process:
            while True:
                message = subscriber.poll(0.02)
                if message is not None and message.error() is None:
                    break
                process.check()
            found.append(time.monotonic() - process.began_s)
            process.end()
        subscriber.close()
    print(f"first event after {min(found):.2f} to {max(found):.2f} s", flush=True)
    return spread(found)


def measure_overload(bootstrap: str, seconds: float) -> dict[str, Any]:
    """Half of the rate that a consumer can process, then 1.5 times that rate, then half again."""
    capacity = backlog_rate(bootstrap)
    print(f"a backlog is processed at {capacity:,.0f} readings/s", flush=True)
    topics = TopicSet.create(bootstrap, PARTITIONS)
    samples: list[tuple[float, int, int, float]] = []
    environment = STEPSTREAM.environment_for(topics)
    with Process(STEPSTREAM.prepare(), environment) as process, Progress(topics) as progress:
        wait_for_members(topics)
        begin_s = time.time()

        def sample() -> int:
            """Add a sample; returns the number of readings that wait."""
            process.check()
            sent_count = progress.sent() * BATCH
            taken = progress.total() * BATCH
            samples.append((time.time() - begin_s, sent_count, taken, process.resident_mib))
            return sent_count - taken

        def play(load_share: float, play_s: float) -> tuple[float, float]:
            """Send for some time; returns when that began and ended."""
            devices = max(1, round(capacity * load_share / RATE_HZ / 25)) * 25
            with started_sender(topics, Fleet(devices, play_s), BATCH) as (sender, epoch_s):
                while sender.is_alive:
                    sample()
                    time.sleep(SAMPLE_S)
                sent(sender)
            return epoch_s - begin_s, time.time() - begin_s

        play(LOW, LOW_S)
        overload = play(OVERLOAD, seconds)
        over_s = time.time() - begin_s
        while sample() > 0:
            if time.time() - begin_s - over_s > DEADLINE_S:
                raise RuntimeError("the consumer doesn't recover")
            time.sleep(SAMPLE_S)
        recovered_s = time.time() - begin_s
        play(LOW, LOW_S)
        wait_until("the end", lambda: sample() == 0, DEADLINE_S)
        peak_mib = process.peak_mib
        process.end()
    result = {
        "backlog_per_s": capacity,
        "overload_s": overload,
        "recovered_s": recovered_s,
        "peak_mib": peak_mib,
        "samples": [tuple(round(x, 1) for x in sample) for sample in samples],
        **summarise(samples, overload),
    }
    shown = {k: v for k, v in result.items() if k != "samples"}
    print(f"overload: {shown}", flush=True)
    return result


def backlog_rate(bootstrap: str) -> float:
    """Readings a second that a consumer processes of a backlog."""
    loaded = load(bootstrap, Fleet(2_000, 15.0), BATCH)
    run = STEPSTREAM.run(for_one_run(loaded.topics), loaded.messages)
    begin = next(sample for sample in run.samples if sample[1] > 0)
    return (loaded.messages - begin[1]) * BATCH / (run.wall_s - begin[0])


def summarise(
    samples: list[tuple[float, int, int, float]], overload: tuple[float, float]
) -> dict[str, float]:
    """Rates under overload: of sending, and of processing, also in its first and last third."""
    begin_s, end_s = overload
    third_s = (end_s - begin_s) / 3

    def rate(column: int, from_s: float, until_s: float) -> float:
        inside = [sample for sample in samples if from_s <= sample[0] <= until_s]
        first, last = inside[0], inside[-1]
        return float(last[column] - first[column]) / (last[0] - first[0])

    return {
        "sent_per_s": rate(1, begin_s, end_s),
        "taken_per_s": rate(2, begin_s, end_s),
        "taken_per_s_first_third": rate(2, begin_s, begin_s + third_s),
        "taken_per_s_last_third": rate(2, end_s - third_s, end_s),
        "lag_at_end": max(sample[1] - sample[2] for sample in samples),
    }


if __name__ == "__main__":
    main()
