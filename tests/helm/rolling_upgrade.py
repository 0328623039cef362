"""``python -m tests.helm.rolling_upgrade REVISION``: from another revision to this one, and back.

Two consumers of that revision run on a real broker while devices send. Then, as a StatefulSet does,
the last is replaced by one of this tree with the same transactional id, and when that is ready, the
first. Then both are replaced again by the old revision, as in a rollback.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.helm.tools import ROOT
from tests.kafka.broker import Broker, free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until

DEVICES = 40
SETTLE_S = 10
"""As the chart's minReadySeconds."""


class Pod:
    """A consumer that is replaced in place, as a pod of a StatefulSet."""

    def __init__(self, topics: TopicSet, number: int) -> None:
        self._topics = topics
        self._number = number
        self._port = free_port()
        self._process: RunProcess | None = None

    def replace(self, folder: Path) -> str:
        """End the consumer, start one of the package in a folder; returns the times of both."""
        begin_s = time.monotonic()
        if self._process is not None:
            assert self._process.terminate() == 0
        ended_s = time.monotonic()
        self._process = RunProcess(
            self._topics, folder, str(self._number), STEPSTREAM_HTTP__PORT=str(self._port)
        )
        wait_until("a ready consumer", self._is_ready)
        return (
            f"{self._number}: ended in {ended_s - begin_s:.1f} s, "
            f"ready {time.monotonic() - ended_s:.1f} s after its start"
        )

    def end(self) -> None:
        assert self._process is not None
        assert self._process.terminate() == 0

    def _is_ready(self) -> bool:
        try:
            return fetch(self._port, "/readyz")[0] == 200
        except OSError:
            return False


def export(revision: str, folder: Path) -> Path:
    """The package as it was at a revision, in a folder from which it can be run."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision, "stepstream", "models"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive, check=True)
    return folder


def longest_wait_s(topics: TopicSet) -> float:
    """Longest time from a step's end to its event, by the devices' and the broker's clocks."""
    waits = []
    for message in topics.read(topics.events):
        ended = float((message.value() or b"").partition(b'"ended_at":')[2].partition(b",")[0])
        waits.append(message.timestamp()[1] / 1000 - ended)
    return max(waits)


def upgrade(revision: str, folder: Path, bootstrap: str) -> None:
    """The upgrade and the rollback; raises if a step is lost or counted twice."""
    topics = TopicSet.create(bootstrap)
    old, new = export(revision, folder / "old"), folder / "new"
    new.mkdir()
    environment = {**os.environ, **topics.environment()}
    pods = [Pod(topics, number) for number in range(2)]
    for pod in pods:
        pod.replace(old)
    walkers = subprocess.Popen(
        [sys.executable, "-m", "stepstream", "simulate", f"--devices={DEVICES}"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    try:
        for what, package in (("upgrade", new), ("rollback", old)):
            time.sleep(SETTLE_S)
            for pod in reversed(pods):
                sys.stdout.write(f"{what} of consumer {pod.replace(package)}\n")
                sys.stdout.flush()
                time.sleep(SETTLE_S)
    finally:
        walkers.terminate()
        walkers.wait()
    topics.wait_consumed()
    for pod in pods:
        pod.end()
    events = topics.read_events()
    numbers = defaultdict(list)
    for event in events:
        numbers[event["device_id"]].append(event["step_count"])
    assert len(numbers) == DEVICES
    assert all(counts == list(range(1, len(counts) + 1)) for counts in numbers.values())
    assert len({event["event_id"] for event in events}) == len(events)
    sys.stdout.write(
        f"{len(events):,} steps of {len(numbers)} devices, none missing, none twice; the one that "
        f"waited longest was published {longest_wait_s(topics):.1f} s after its end\n"
    )


def main() -> int:
    """Try it."""
    parser = argparse.ArgumentParser(description="A rolling upgrade from another revision.")
    parser.add_argument("revision")
    revision = parser.parse_args().revision
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "broker")
        broker.start()
        try:
            upgrade(revision, Path(folder), broker.bootstrap)
        finally:
            broker.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main())
