"""A backfill by another model: interrupted or not, and beside `run` on the same backlog."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness import (
    DEADLINE_S,
    Process,
    Progress,
    add_results,
    children,
    running_broker,
    save,
    spread,
)
from benchmarks.inputs import Fleet, for_one_run, load
from stepstream.detection import default_model_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.inputs import Loaded
    from tests.kafka.builders import TopicSet

DEVICES = 375
SECONDS = 96.0
KILLED_AT = (0.2, 0.45, 0.7)
"""Shares of the readings at which the interrupted backfill is killed."""
WORKERS = 2
SAMPLE_S = 0.05
FLOAT32 = default_model_path()
INT8 = FLOAT32.with_stem(f"{FLOAT32.stem}-int8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    add_results(parser)
    options = parser.parse_args()
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="stepstream-bench-")
    fleet = Fleet(DEVICES, SECONDS * options.share)
    with running_broker() as bootstrap:
        loaded = load(bootstrap, fleet)
        print(f"{loaded.readings:,} readings; {fleet.origin}", flush=True)
        whole, killed = loaded.topics.into("whole"), loaded.topics.into("killed")
        backfill(loaded, "whole", INT8)
        interrupt(loaded, "killed", INT8)
        events = dict(by_id(whole))
        if dict(by_id(killed)) != events:
            raise RuntimeError("the interrupted backfill gave other events")
        print(f"{len(events):,} events, the same after {len(KILLED_AT)} kills", flush=True)
        rates: dict[str, list[float]] = {"run": [], "backfill": []}
        for number in range(options.rounds):
            topics = for_one_run(loaded.topics)
            command = [*stepstream("run"), "--workers", str(WORKERS)]
            with Process(command, topics.environment()) as process:
                rates["run"].append(watch(process, topics, loaded.messages))
            rates["backfill"].append(backfill(loaded, f"round-{number}", FLOAT32))
            print(f"readings/s: run {rates['run'][-1]:,.0f}, backfill {rates['backfill'][-1]:,.0f}")
    ratios = [own / run for own, run in zip(rates["backfill"], rates["run"], strict=True)]
    print(f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    results = {
        "input": fleet.origin,
        "readings": loaded.readings,
        "devices": DEVICES,
        "events": len(events),
        "kills": len(KILLED_AT),
        "workers": WORKERS,
        "ratio": spread(ratios),
        **{name: spread(values) for name, values in rates.items()},
    }
    save("backfill", results, options.results)
    return 0


def stepstream(name: str) -> list[str]:
    return [sys.executable, "-m", "stepstream", name]


def begin(loaded: Loaded, name: str, model: object) -> Process:
    """Start the command, or start it again."""
    options = ["--into", name, "--workers", str(WORKERS), "--model.path", str(model)]
    return Process([*stepstream("backfill"), *options], loaded.topics.environment())


def watch(process: Process, topics: TopicSet, messages: int) -> float:
    """Messages a second, from the first commit to the last."""
    first: tuple[float, int] | None = None
    with Progress(topics) as progress:
        while True:
            total, now_s = progress.total(), time.monotonic()
            if first is None and total:
                first = now_s, total
            if first is not None and total >= messages:
                return (total - first[1]) / (now_s - first[0])
            process.check()
            if now_s - process.began_s > DEADLINE_S:
                raise RuntimeError(f"{total} of {messages} messages in {DEADLINE_S:.0f} s")
            time.sleep(SAMPLE_S)


def backfill(loaded: Loaded, name: str, model: object) -> float:
    """Messages a second of a backfill that nothing interrupts."""
    with begin(loaded, name, model) as process:
        rate = watch(process, loaded.topics.into(name), loaded.messages)
        process.end(None)
        print(f"{name}: {process.output.splitlines()[-1]}", flush=True)
    return rate


def interrupt(loaded: Loaded, name: str, model: object) -> None:
    """A backfill that is killed again and again: a worker at first, then all its processes."""
    process = begin(loaded, name, model)
    topics = loaded.topics.into(name)
    for number, share in enumerate(KILLED_AT):
        watch(process, topics, round(share * loaded.messages))
        victims: Sequence[int] = children(process.pid)
        victims = [process.pid, *victims] if number else victims[:1]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        print(f"killed {len(victims)} processes at {share:.0%}", flush=True)
        if number:
            process.__exit__()
            process = begin(loaded, name, model)
    with process:
        process.end(None)


def by_id(topics: TopicSet) -> Iterator[tuple[str, Any]]:
    """Events by their ids, each once.

    Raises
    ------
    RuntimeError
        One was published twice.
    """
    seen = set()
    for event in topics.read_events():
        if event["event_id"] in seen:
            raise RuntimeError(f"{event['event_id']} was published twice")
        seen.add(event["event_id"])
        yield event["event_id"], event


if __name__ == "__main__":
    raise SystemExit(main())
