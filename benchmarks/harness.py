"""What the benchmarks share: a broker, topics full of readings, processes and their cost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.kafka.broker import Broker
from tests.kafka.builders import TopicSet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

RATE_HZ = 80
PEOPLE = 25
PARTITIONS = 4
DEADLINE_S = 300.0


@contextmanager
def running_broker() -> Iterator[str]:
    """Address of a broker: KAFKA_BOOTSTRAP, or one started for the occasion."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            yield broker.bootstrap
        finally:
            broker.kill()


def load_readings(topics: TopicSet, devices: int, seconds: float, batch: int) -> int:
    """Fill the readings topic; the number of messages.

    A few people are simulated and each is copied under many ids, which costs less.
    """
    fleet = [Device(f"{n}", Walker(n, RATE_HZ)) for n in range(PEOPLE)]
    epoch_s = int(time.time() - seconds) - 60
    copies = devices // PEOPLE
    count = 0

    def copied() -> Iterator[tuple[bytes, bytes]]:
        nonlocal count
        for message in messages(fleet, epoch_s, seconds, batch=batch):
            own = b'"device_id":"' + message.key + b'"'
            for copy in range(copies):
                key = b"device-%s-%d" % (message.key, copy)
                count += 1
                yield key, message.value.replace(own, b'"device_id":"' + key + b'"', 1)

    topics.produce(copied())
    return count


@dataclass(frozen=True)
class Run:
    """What one process did and cost: seconds of CPU, mebibytes at the peak."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def run_consumer(topics: TopicSet, module: str, **more: str) -> Run:
    """Run a consumer as a new group until it has committed the whole topic, then end it.

    ``more`` are environment variables for it.
    """
    topics = replace(topics, group=f"bench-{uuid.uuid4().hex[:8]}")
    environment = {**os.environ, **topics.environment(), "STEPSTREAM_LOGGING__LEVEL": "warning"}
    environment["STEPSTREAM_KAFKA__TRANSACTIONAL_ID"] = topics.group
    environment |= more
    arguments = [sys.executable, "-m", module, *(["run"] if module == "stepstream" else [])]
    begin_s = time.monotonic()
    process = subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until("a member", lambda: topics.describe_group().members, DEADLINE_S)
        topics.wait_consumed(DEADLINE_S)
        wall_s = time.monotonic() - begin_s
        process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise RuntimeError(f"{module} ended with {process.returncode}")
    return Run(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024)
