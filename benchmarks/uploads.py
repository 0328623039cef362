"""How much is read again after a kill if devices upload batches that span many seconds.

``python -m benchmarks.uploads 10 30 60``: devices upload batches of so many seconds at times of
their own, and a third of the devices leave. The input has the record times of such a fleet and is
produced at once. A consumer is killed at the end of each part of it, and the next one says how much
it replays.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.harness import DEADLINE_S, PARTITIONS
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.kafka.broker import Broker
from tests.kafka.builders import RunProcess, TopicSet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Message

AGO_S = 7_200.0
"""How long ago the first upload is; the broker soon deletes what is older than a week."""
DEVICES = 120
RATE_HZ = 20.0
KILLS = 3
UPLOADS = 12
"""Of a device that stays."""
STARTED = re.compile(r"partition started.*-(\d+) offset=(\d+) replay=(\d+)")


class Upload(NamedTuple):
    """A message, and its record time."""

    at_ms: int
    key: bytes
    value: bytes


def uploads(span_s: float) -> list[Upload]:
    """All uploads in the order of their record times."""
    random, epoch_s = np.random.default_rng(0), time.time() - AGO_S
    found = []
    for number in range(DEVICES):
        begin_s = epoch_s + random.uniform(0, span_s)
        leaves = number % 3 == 0
        length_s = span_s * (random.integers(2, UPLOADS) if leaves else UPLOADS)
        device = Device(f"device-{number}", Walker(number, RATE_HZ))
        batch = round(span_s * RATE_HZ)
        for count, message in enumerate(messages([device], begin_s, length_s, batch=batch), 1):
            at_s = begin_s + span_s * count + random.uniform(0, 0.5)
            found.append(Upload(round(at_s * 1000), message.key, message.value))
    return sorted(found)


def produce(topics: TopicSet, part: Sequence[Upload]) -> None:
    """Send messages with their record times."""
    producer = Producer(
        {"bootstrap.servers": topics.bootstrap, "partitioner": "murmur2_random", "linger.ms": 20}
    )
    for at_ms, key, value in part:
        producer.produce(topics.readings, value, key, timestamp=at_ms)
        producer.poll(0)
    producer.flush(DEADLINE_S)


def record_times(topics: TopicSet) -> dict[int, list[int]]:
    """Record times of all messages of each partition, milliseconds."""
    return {
        number: [message.timestamp()[1] for message in found]
        for number in range(PARTITIONS)
        if (found := list(read_partition(topics, number)))
    }


def read_partition(topics: TopicSet, number: int) -> Iterator[Message]:
    reader = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": "times"})
    at = TopicPartition(topics.readings, number, 0)
    _, end = reader.get_watermark_offsets(at, DEADLINE_S)
    reader.assign([at])
    seen = 0
    while seen < end:
        for message in reader.consume(1000, 1.0):
            if message.error() is None:
                seen += 1
                yield message
    reader.close()


def has_started(run: RunProcess) -> bool:
    """Whether all partitions run."""
    return len(STARTED.findall(run.log.read_text())) == PARTITIONS


def measure(broker: Broker, folder: Path, span_s: float) -> list[float]:
    """Stream time from where each replay begins to where it ends, seconds."""
    topics = TopicSet.create(broker.bootstrap, PARTITIONS, own_times=True)
    sent = uploads(span_s)
    replays: list[tuple[int, int, int]] = []
    for kill in range(KILLS + 1):
        with RunProcess(topics, folder, f"span-{span_s:.0f}-{kill}") as run:
            wait_until("all partitions", partial(has_started, run), DEADLINE_S)
            started = STARTED.findall(run.log.read_text())
            replays += [(int(p), int(offset), int(count)) for p, offset, count in started]
            if kill < KILLS:
                produce(topics, sent[kill * len(sent) // KILLS : (kill + 1) * len(sent) // KILLS])
                topics.wait_consumed(DEADLINE_S)
            run.kill()
    times = record_times(topics)
    return [
        (max(times[p][:offset]) - max(times[p][: offset - count], default=times[p][0])) / 1000
        for p, offset, count in replays
        if count
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spans", nargs="+", type=float)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        broker = Broker(Path(name) / "broker")
        broker.start()
        try:
            for span_s in options.spans:
                found = measure(broker, Path(name), span_s)
                print(
                    f"uploads of {span_s:.0f} s: {len(found)} replays of {np.median(found):.1f} s "
                    f"of stream time (median), {max(found):.1f} s at most",
                    flush=True,
                )
        finally:
            broker.kill()


if __name__ == "__main__":
    main()
