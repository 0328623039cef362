"""Sends the readings of a fleet at times that are fixed in advance; runs as a process of its own.

If sending pauses, the plan doesn't change: late messages are sent at once, and count as late.
"""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from benchmarks.harness import PARTITIONS, ROOT, Process
from benchmarks.inputs import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kafka.builders import TopicSet

AHEAD = 2_000_000
"""Messages that are made before sending begins; the others are made while it sends."""
PAUSE_S = 0.0005
FLUSH_S = 60
MADE_S, MADE_PER_S = 4.0, 40_000
PATIENCE = (1, 4, 16)
"""Time to start, and messages made a second; as a multiple of it on a busy machine."""


def main() -> None:
    plan = json.loads(sys.argv[1])
    fleet, batch = Fleet(**plan["fleet"]), plan["batch"]
    producer = Producer(
        {
            "bootstrap.servers": plan["bootstrap"],
            "linger.ms": 2,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1_000_000,
            "enable.idempotence": True,
        }
    )
    producer.list_topics(plan["topic"], timeout=FLUSH_S)
    made = fleet.messages(plan["epoch_s"], batch)
    stream = iter(list(made)) if fleet.readings / batch <= AHEAD else made
    print("ready", flush=True)
    epoch_s = plan["epoch_s"]
    behind_s, count = 0.0, 0
    for due_s, number, key, value in stream:
        wait_s = epoch_s + due_s - time.time()
        while wait_s > 0:
            producer.poll(0)
            time.sleep(max(PAUSE_S, wait_s))
            wait_s = epoch_s + due_s - time.time()
        behind_s = max(behind_s, -wait_s)
        while True:
            try:
                producer.produce(plan["topic"], value, key, number % PARTITIONS)
            except BufferError:
                producer.poll(0.01)
            else:
                break
        count += 1
    lost = producer.flush(FLUSH_S)
    print(json.dumps({"sent": count, "lost": lost, "behind_ms": behind_s * 1000}), flush=True)


@contextmanager
def started_sender(
    topics: TopicSet, fleet: Fleet, batch: int = 1
) -> Iterator[tuple[Process, float]]:
    """A sender that is ready, and the second since the epoch at which it begins."""
    messages = fleet.readings / batch
    made_s = MADE_S + (messages / MADE_PER_S if messages <= AHEAD else 0)
    for patience in PATIENCE:
        epoch_s = math.ceil(time.time() + made_s * patience)
        plan = {
            "bootstrap": topics.bootstrap,
            "topic": topics.readings,
            "fleet": asdict(fleet),
            "epoch_s": epoch_s,
            "batch": batch,
        }
        command = [sys.executable, "-m", "benchmarks.sender", json.dumps(plan)]
        with Process(command, {"PYTHONPATH": str(ROOT)}) as sender:
            while time.time() < epoch_s and "ready" not in sender.output:
                sender.check()
                time.sleep(0.05)
            if time.time() < epoch_s:
                yield sender, epoch_s
                return
    raise RuntimeError("the machine is too busy to send in time")


def sent(sender: Process) -> dict[str, float]:
    """The report of a sender that has ended: messages, lost messages, the largest delay."""
    sender.end(None)
    report: dict[str, float] = json.loads(sender.output.splitlines()[-1])
    if report["lost"]:
        raise RuntimeError(f"{report['lost']} messages were not delivered")
    return report


if __name__ == "__main__":
    main()
