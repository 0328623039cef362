"""Time of recovery: after SIGKILL, when partitions move, and with a large ledger.

``python -m benchmarks.recovery`` for the first two, ``--ledger 1000000`` for the last.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.harness import DEADLINE_S, PARTITIONS
from stepstream.detection import Model, default_model_path
from stepstream.settings import ProcessingSettings
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.simulator import Sent, send
from stepstream.simulation.walkers import Walker
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.publisher import Publisher
from tests.kafka.broker import Broker
from tests.kafka.builders import RunProcess, TopicSet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.simulation.fleet import Message

DEVICES = 2_000
RATE_HZ = 10.0
PEOPLE = 25
SESSION_S = 6.0
"""The shortest that a broker allows by default."""
STEADY_S = 6.0
CAUGHT_UP_MS = 500.0
"""If an event is seen this soon after its reading, its partition has no lag."""


@dataclass
class Seen:
    """Events as a ``read_committed`` subscriber saw them: input partition, offset, time in ms."""

    partition: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    time_ms: list[float] = field(default_factory=list)

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """Partition and offset of the reading that completed each event."""
        return zip(self.partition, self.offset, strict=True)


def subscribe(topics: TopicSet, seen: Seen, done: Event) -> None:
    """Note every event until it is over."""
    subscriber = Consumer(
        {
            "bootstrap.servers": topics.bootstrap,
            "group.id": f"{topics.group}-subscriber",
            "isolation.level": "read_committed",
        }
    )
    subscriber.assign([TopicPartition(topics.events, p, 0) for p in range(PARTITIONS)])
    while not done.is_set():
        for message in subscriber.consume(1000, 0.02):
            if message.error() is None:
                event_id = json.loads(message.value() or b"")["event_id"]
                _, partition, offset, _ = event_id.rsplit("-", 3)
                seen.partition.append(int(partition))
                seen.offset.append(int(offset))
                seen.time_ms.append(time.time() * 1000)
    subscriber.close()


def readings(seconds: float) -> Iterator[Message]:
    """A few people, each copied under many ids, which is cheaper than as many people."""
    fleet = [Device(f"{n}", Walker(n, RATE_HZ)) for n in range(PEOPLE)]
    copies = DEVICES // PEOPLE
    for message in messages(fleet, time.time(), seconds):
        own = b'"device_id":"' + message.key + b'"'
        for copy in range(copies):
            key = b"device-%s-%d" % (message.key, copy)
            value = message.value.replace(own, b'"device_id":"' + key + b'"', 1)
            yield message._replace(key=key, value=value)


class Trial:
    """Consumers under load, what is done to them, and when."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.folder = folder
        self.topics = TopicSet.create(broker.bootstrap, PARTITIONS)
        self.seen = Seen()
        self.done: list[tuple[str, float]] = []
        self.replayed: dict[str, list[int]] = {}
        self._runs: list[RunProcess] = []
        self._names = 0

    def start(self) -> RunProcess:
        """A consumer with a free transactional id, as in a StatefulSet."""
        slot = next(n for n in "abc" if n not in {run.name[0] for run in self._runs})
        self._names += 1
        properties = {"session.timeout.ms": round(SESSION_S * 1000)}
        more = {
            "STEPSTREAM_KAFKA__PROPERTIES": json.dumps(properties),
            "STEPSTREAM_KAFKA__TRANSACTIONAL_ID": f"{self.topics.group}-{slot}",
        }
        run = RunProcess(self.topics, self.folder, f"{slot}{self._names}", **more)
        self._runs.append(run)
        return run

    def _wait_for_starts(self, count: int) -> None:
        wait_until(f"{count} partitions started", lambda: len(self._replays()) >= count)

    def _replays(self) -> list[int]:
        texts = [path.read_text() for path in sorted(self.folder.glob("*.log"))]
        return [
            int(n) for text in texts for n in re.findall(r"partition started.*replay=(\d+)", text)
        ]

    def act(self, kind: str, rounds: int) -> None:
        """Do something ``rounds`` times, each time after a while without a fault."""
        for _ in range(rounds):
            time.sleep(STEADY_S)
            before = self._replays()
            self.done.append((kind, time.time() * 1000))
            if kind == "added":
                self.start()
            else:
                run = self._runs.pop(0)
                run.kill() if kind == "killed" else run.terminate()
            self._wait_for_starts(len(before) + 1)
            time.sleep(STEADY_S + (SESSION_S if kind == "killed" else 0))
            counted = sum(self._replays()) - sum(before)
            self.replayed.setdefault(kind, []).append(counted)
            if kind == "killed":
                self.done.append(("replaced", time.time() * 1000))
                self.start()
                time.sleep(STEADY_S)

    def run(self, kills: int, hand_overs: int) -> None:
        """Everything, under load."""
        sending, stop, over = Sent(), Event(), Event()
        publisher = Publisher(self.topics.settings().kafka, self.topics.readings)
        sender = Thread(
            target=send, args=(readings(1e6), publisher, 1, stop, sending), name="sender"
        )
        subscriber = Thread(target=subscribe, args=(self.topics, self.seen, over))
        for run in (self.start(), self.start()):
            run.wait_for_log("partition started")
        sender.start()
        subscriber.start()
        try:
            self.act("killed", kills)
            for _ in range(hand_overs):
                self.act("ended", 1)
                self.act("added", 1)
        finally:
            stop.set()
            sender.join()
            publisher.flush(DEADLINE_S)
            self.topics.wait_consumed(DEADLINE_S)
            for run in self._runs:
                run.terminate()
            over.set()
            subscriber.join()
        print(f"messages were sent up to {sending.behind_s * 1000:.0f} ms late")

    def figures(self, appended: dict[tuple[int, int], float]) -> dict[str, list[float]]:
        """For each fault: seconds to recover after a kill, otherwise the longest gap."""
        partition = np.array(self.seen.partition)
        time_ms = np.array(self.seen.time_ms)
        delay_ms = time_ms - np.array([appended[place] for place in self.seen.places])
        found: dict[str, list[float]] = {}
        times = [at_ms for _, at_ms in self.done] + [np.inf]
        for n, (kind, at_ms) in enumerate(self.done):
            worst = 0.0
            for number in range(PARTITIONS):
                own = (partition == number) & (time_ms > at_ms - 1000) & (time_ms < times[n + 1])
                if kind == "killed":
                    late = time_ms[own][delay_ms[own] > CAUGHT_UP_MS]
                    worst = max(worst, (late.max() - at_ms) / 1000 if len(late) else 0.0)
                else:
                    near = time_ms[own & (time_ms < at_ms + STEADY_S * 1000)]
                    worst = max(worst, np.diff(near).max() / 1000)
            found.setdefault(kind, []).append(round(float(worst), 3))
        return found


def append_times(topics: TopicSet, places: set[tuple[int, int]]) -> dict[tuple[int, int], float]:
    """When the readings at some offsets were appended, ms; all are read, and few are kept."""
    reader = Consumer(
        {
            "bootstrap.servers": topics.bootstrap,
            "group.id": f"{topics.group}-times",
            "enable.partition.eof": True,
        }
    )
    reader.assign([TopicPartition(topics.readings, p, 0) for p in range(topics.partitions)])
    found: dict[tuple[int, int], float] = {}
    ended, end_s = 0, time.monotonic() + DEADLINE_S
    while ended < topics.partitions:
        if time.monotonic() > end_s:
            raise TimeoutError(f"{topics.readings} can't be read to its end")
        for message in reader.consume(10_000, 1.0):
            if message.error() is not None:
                ended += 1
                continue
            place = (message.partition() or 0, message.offset() or 0)
            if place in places:
                found[place] = float(message.timestamp()[1])
    reader.close()
    return found


def size(folder: Path, topic: str) -> int:
    """Bytes of a topic's segments on the broker's disk."""
    return sum(path.stat().st_size for path in folder.glob(f"data/{topic}-*/*.log"))


def measure_recovery(kills: int, hand_overs: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder / "broker")
        broker.start()
        try:
            trial = Trial(broker, folder)
            trial.run(kills, hand_overs)
            topics = trial.topics
            appended = append_times(topics, set(trial.seen.places))
            state, read = size(broker.folder, topics.state), size(broker.folder, topics.readings)
            records = len(topics.read(topics.state))
            found = trial.figures(appended)
        finally:
            broker.kill()
    for kind, values in found.items():
        what = "s until caught up" if kind == "killed" else "s longest gap in a partition's events"
        again = trial.replayed.get(kind)
        print(f"{kind}: {sorted(values)} {what}; {again and sorted(again)} readings read again")
    print(
        f"state topic: {state:,} bytes ({records:,} records left) for {read:,} bytes of input, "
        f"{100 * state / read:.2f} %"
    )
    return {"seconds": found, "replayed": trial.replayed, "state_bytes": state, "input_bytes": read}


def measure_ledger(devices: int) -> dict[str, object]:
    """Start a consumer whose group has counted the steps of many devices."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = Broker(folder / "broker")
        broker.start()
        try:
            topics = TopicSet.create(broker.bootstrap, PARTITIONS)
            topics.produce([(b"first", b"{}")])
            with RunProcess(topics, folder, "first") as run:
                topics.wait_consumed()
                run.terminate()
            write_ledger(topics, devices)
            begin_s = time.monotonic()
            with RunProcess(topics, folder, "second") as run:
                wait_until(
                    "all partitions",
                    lambda: run.log.read_text().count("partition started") == PARTITIONS,
                    DEADLINE_S,
                )
                took_s = time.monotonic() - begin_s
                peak_mib = run.peak_mib
                began = re.search(r"^\S+ \S+", run.log.read_text(), re.MULTILINE)
                run.terminate()
        finally:
            broker.kill()
    print(
        f"{devices:,} devices: running {took_s:.1f} s after the process began "
        f"(first line {began and began[0]}), peak {peak_mib:.0f} MiB"
    )
    return {"devices": devices, "seconds": round(took_s, 2), "peak_mib": round(peak_mib)}


def write_ledger(topics: TopicSet, devices: int) -> None:
    """Records as a consumer writes them, spread over the partitions."""
    producer = Producer({"bootstrap.servers": topics.bootstrap, "compression.type": "lz4"})
    model, processing = Model(default_model_path()), ProcessingSettings()
    ledger = Ledger.of(model.metadata, processing, topics.group, topics.readings)
    for n in range(devices):
        device = f"device-{n:08}"
        ledger.count(device, n, [1_700_000_000_000_000 + n])
        key, value = ledger.record(device, 0)
        while True:
            try:
                producer.produce(topics.state, value, key, partition=n % PARTITIONS)
            except BufferError:
                producer.poll(0.1)
            else:
                break
    producer.flush(DEADLINE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--hand-overs", type=int, default=8)
    parser.add_argument("--ledger", type=int, help="devices; measures reading their ledger only")
    options = parser.parse_args()
    if options.ledger:
        found = measure_ledger(options.ledger)
    else:
        found = measure_recovery(options.kills, options.hand_overs)
    Path("build").mkdir(exist_ok=True)
    kind = "ledger" if options.ledger else "recovery"
    Path(f"build/{kind}.json").write_bytes(msgspec.json.format(msgspec.json.encode(found)))


if __name__ == "__main__":
    main()
