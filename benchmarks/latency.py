"""Time from the arrival of the reading that completes a step to its event's visibility."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from benchmarks.harness import DEADLINE_S, PARTITIONS, RATE_HZ, running_broker
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.simulator import Sent, send
from stepstream.simulation.walkers import Walker
from stepstream.streaming.publisher import Publisher
from tests.kafka.builders import TopicSet, wait_until

DEVICES = 1_000
READINGS_PER_S = 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--devices", type=int, default=round(READINGS_PER_S / RATE_HZ))
    options = parser.parse_args()
    with running_broker() as bootstrap:
        topics = TopicSet.create(bootstrap, PARTITIONS)
        environment = {**os.environ, **topics.environment()}
        run = subprocess.Popen([sys.executable, "-m", "stepstream", "run"], env=environment)
        try:
            wait_until("a member", lambda: topics.describe_group().members, DEADLINE_S)
            seen = measure(topics, options.devices, options.seconds)
            status = Path(f"/proc/{run.pid}/status").read_text(encoding="ascii")
            resident = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        finally:
            run.terminate()
            run.wait()
        arrived = append_times(topics)
    delays_ms = [seen_ms - arrived[place] for place, seen_ms in seen.items()]
    figures = {f"p{p}": float(np.percentile(delays_ms, p)) for p in (50, 90, 99, 100)}
    print(
        f"{options.devices * RATE_HZ:,} readings/s, {len(delays_ms)} events: "
        + ", ".join(f"{name} {value:.0f} ms" for name, value in figures.items())
        + f"; resident {int(resident.split()[1]) / 1024:.0f} MiB"
    )
    Path("build").mkdir(exist_ok=True)
    Path("build/latency.json").write_text(json.dumps(figures), encoding="utf-8")


def measure(topics: TopicSet, devices: int, seconds: float) -> dict[tuple[int, int], float]:
    """Send at the pace of the devices; when each event was seen, by its completing reading."""
    subscriber = Consumer(
        {
            "bootstrap.servers": topics.bootstrap,
            "group.id": f"{topics.group}-subscriber",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 500,
        }
    )
    subscriber.assign([TopicPartition(topics.events, p, 0) for p in range(PARTITIONS)])
    seen: dict[tuple[int, int], float] = {}
    done = Event()

    def subscribe() -> None:
        while not done.is_set():
            message = subscriber.poll(0.05)
            if message is not None and message.error() is None:
                now_ms = time.time() * 1000
                _, partition, offset, number = json.loads(message.value() or b"")[
                    "event_id"
                ].rsplit("-", 3)
                if number == "0":
                    seen[int(partition), int(offset)] = now_ms
        subscriber.close()

    thread = Thread(target=subscribe)
    thread.start()
    fleet = [Device(f"device-{n}", Walker(n, RATE_HZ)) for n in range(devices)]
    publisher = Publisher(topics.settings().kafka, topics.readings)
    sent = Sent()
    send(messages(fleet, time.time(), seconds), publisher, 1, Event(), sent)
    publisher.flush(DEADLINE_S)
    topics.wait_consumed(DEADLINE_S)
    done.wait(1)
    done.set()
    thread.join()
    print(f"sending lagged behind its plan by {sent.behind_s * 1000:.0f} ms at most")
    return seen


def append_times(topics: TopicSet) -> dict[tuple[int, int], float]:
    """When the broker appended each reading, milliseconds since the epoch."""
    return {
        (message.partition() or 0, message.offset() or 0): float(message.timestamp()[1])
        for message in topics.read(topics.readings)
    }


if __name__ == "__main__":
    main()
