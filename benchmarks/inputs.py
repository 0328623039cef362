"""Input of the benchmarks: recordings played as many devices, or simulated walkers."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from confluent_kafka import Producer

from benchmarks.harness import PARTITIONS, RATE_HZ, ROOT
from stepstream.detection import Model, default_model_path, detect_series
from stepstream.recordings import Recording, read_recording
from stepstream.settings import ProcessingSettings
from stepstream.simulation.fleet import Device, Player, messages
from stepstream.simulation.walkers import Walker
from stepstream.streaming.counting import count_steps
from stepstream.streaming.topics import create_topics
from tests.kafka.builders import TopicSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stepstream.inputs import MessageWriter

PEOPLE = 25
"""Signals; each is copied under many ids, which is cheaper than as many signals."""
SKIPPED_S = 15
"""Beginning of a recording that is left out: most begin with people who stand."""
REUSE_S = 20
"""A recording that is used twice begins this much later the second time."""
CHUNK = 1_000
QUEUED_BYTES = 200_000_000
"""Smallest size of the producer's queue."""
TIMEOUT_S = 120


class Loaded(NamedTuple):
    """A readings topic that was filled.

    Attributes
    ----------
    topics
        The topic, and the other topics and the group for its consumer.
    messages, readings
        How many are in it.
    epoch_s
        Second zero of the signals.
    """

    topics: TopicSet
    messages: int
    readings: int
    epoch_s: int


@dataclass(frozen=True)
class Fleet:
    """Devices that send at one rate for some time.

    Attributes
    ----------
    devices
        How many; a multiple of `PEOPLE`, or fewer.
    seconds
        How long each sends.
    rate_hz
        Readings a second of each; recordings have 80, others are simulated.
    begin_s
        How much of the signals is left out before.
    """

    devices: int
    seconds: float
    rate_hz: float = RATE_HZ
    begin_s: float = 0.0

    @property
    def readings(self) -> int:
        """Readings of all devices."""
        return self.devices * sum(map(len, self.signals)) // len(self.signals)

    @cached_property
    def origin(self) -> str:
        """Where the signals come from, as text."""
        if self.rate_hz == RATE_HZ and recordings():
            return f"{len(recordings())} recordings of people who walk, climb stairs and stand"
        return "simulated walkers"

    @cached_property
    def signals(self) -> list[Recording]:
        """The signals that the devices send; ``devices / len(signals)`` devices share each."""
        people = min(PEOPLE, self.devices)
        if self.devices % people:
            raise ValueError(f"{self.devices} devices: expected a multiple of {PEOPLE}, or fewer")
        return [self._signal(number) for number in range(people)]

    def _signal(self, number: int) -> Recording:
        files = recordings() if self.rate_hz == RATE_HZ else []
        if not files:
            walker = Walker(number, self.rate_hz)
            walker.read(self.begin_s)
            time_s, axes = walker.read(self.begin_s + self.seconds)
            # Whole microseconds: other times would be rounded differently when the epoch is added.
            return Recording(f"{number}", time_s.round(6), axes.round(5))
        axes = read_recording(files[number % len(files)], RATE_HZ).axes
        count = round(self.seconds * RATE_HZ)
        places = round(self.begin_s * RATE_HZ) + np.arange(count)
        begin = SKIPPED_S + number // len(files) * REUSE_S
        rows = (places + begin * RATE_HZ) % len(axes)
        # Devices don't read their sensors at the same moments.
        return Recording(f"{number}", (places + number / PEOPLE) / RATE_HZ, axes[rows])

    def steps(self) -> set[tuple[str, int]]:
        """The steps to find: device, and end of the step in microseconds after the epoch."""
        model, settings = Model(default_model_path()), ProcessingSettings()
        found = set()
        for number, signal in enumerate(self.signals):
            time_us = (signal.time_s * 1e6).round().astype(np.int64)
            steps = detect_series(model, time_us, signal.axes.astype(np.float32))
            _, events = count_steps(signal.device_id, steps, model, settings)
            ends = [round(event.ended_at * 1e6) for event in events]
            copies = self.devices // len(self.signals)
            found |= {(_name(number, copy), end) for copy in range(copies) for end in ends}
        return found

    def messages(
        self, epoch_s: int, batch: int = 1, writer: MessageWriter | None = None
    ) -> Iterator[tuple[float, int, bytes, bytes]]:
        """When each message is due, its device's number, key and value; in the order of time.

        A device's number says which partition it is in, modulo their number. A writer must write
        the device's id into the key only.
        """
        fleet = [
            Device(signal.device_id, Player(signal, int(signal.time_s[0])))
            for signal in self.signals
        ]
        copies = self.devices // len(fleet)
        names = {
            device.device_id.encode(): [_name(number, copy).encode() for copy in range(copies)]
            for number, device in enumerate(fleet)
        }
        end_s = self.begin_s + self.seconds
        for message in messages(fleet, epoch_s, end_s, batch=batch, decimals=None, writer=writer):
            if writer is not None:
                for copy, name in enumerate(names[message.key]):
                    yield message.due_s, int(message.key) + copy, name, message.value
                continue
            head, tail = message.value.split(b'"device_id":"' + message.key + b'"', 1)
            head += b'"device_id":"'
            tail = b'"' + tail
            first = int(message.key)
            for copy, name in enumerate(names[message.key]):
                yield message.due_s, first + copy, name, head + name + tail


def _name(number: int, copy: int) -> str:
    return f"device-{number}-{copy}"


def recordings() -> list[Path]:
    """The real recordings, if they exist: in TEST_DATA, or ../shared/data."""
    folder = Path(os.environ.get("TEST_DATA", ROOT.parent / "shared" / "data"))
    return sorted(folder.glob("simul-hand/*/*.csv.gz"))


def load(
    bootstrap: str,
    fleet: Fleet,
    batch: int = 1,
    partitions: int = PARTITIONS,
    writer: MessageWriter | None = None,
) -> Loaded:
    """Fill a readings topic, and wait until everything is in it."""
    topics = TopicSet.create(bootstrap, partitions)
    epoch_s = int(time.time() - fleet.seconds) - 60
    with Filler(topics) as filler:
        for _, number, key, value in fleet.messages(epoch_s, batch, writer):
            filler.add(number, key, value)
    filler.check()
    return Loaded(topics, filler.count, fleet.readings, epoch_s)


class Filler:
    """Fills a readings topic as fast as possible, optionally within a transaction.

    Messages of a transaction appear to `read_committed` consumers all at once.
    """

    def __init__(self, topics: TopicSet, *, transaction: bool = False) -> None:
        self.count = 0
        self._topics = topics
        self._chunks: list[list[dict[str, bytes]]] = [[] for _ in range(topics.partitions)]
        properties: dict[str, str | int | bool] = {
            "bootstrap.servers": topics.bootstrap,
            "queue.buffering.max.messages": 10_000_000,
            "queue.buffering.max.kbytes": 2_000_000,
            "linger.ms": 20,
            "compression.type": "lz4",
            "enable.idempotence": True,
        }
        if transaction:
            properties["transactional.id"] = f"fill-{topics.readings}"
            properties["transaction.timeout.ms"] = 600_000
        self._producer = Producer(properties)
        if transaction:
            self._producer.init_transactions(TIMEOUT_S)
            self._producer.begin_transaction()

    def add(self, device: int, key: bytes, value: bytes) -> None:
        """Queue a message of a device."""
        partition = device % self._topics.partitions
        chunk = self._chunks[partition]
        chunk.append({"key": key, "value": value})
        if len(chunk) == CHUNK:
            self._send(partition)

    def _send(self, partition: int) -> None:
        chunk, self._chunks[partition] = self._chunks[partition], []
        if not chunk:
            return
        readings = self._topics.readings
        if self._producer.produce_batch(readings, chunk, partition=partition) != len(chunk):
            raise RuntimeError("the producer's queue is full")
        self.count += len(chunk)
        while len(self._producer) * len(chunk[-1]["value"]) > QUEUED_BYTES:
            self._producer.poll(0.05)

    def flush(self) -> None:
        """Wait until the broker has all messages."""
        for partition in range(self._topics.partitions):
            self._send(partition)
        if self._producer.flush(TIMEOUT_S):
            raise RuntimeError("the broker doesn't accept the messages")

    def commit(self) -> None:
        """End the transaction."""
        self._producer.commit_transaction(TIMEOUT_S)

    def check(self) -> None:
        """Raise if the topic doesn't hold what was added, and nothing else."""
        ends = sum(self._topics.end_offsets(self._topics.readings).values())
        if ends != self.count:
            raise RuntimeError(f"{ends} messages in {self._topics.readings}, not {self.count}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.flush()


def for_one_run(readings: TopicSet, outputs: Sequence[str] = ()) -> TopicSet:
    """Topics for another consumer of the same readings: a group and outputs of its own."""
    topics = replace(
        TopicSet.named(readings.bootstrap, readings.partitions), readings=readings.readings
    )
    if outputs:
        topics = topics.with_outputs(*outputs)
    settings = topics.settings()
    create_topics(settings.kafka, settings.topics)
    return topics
