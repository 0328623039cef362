"""One sender can't use up what the others share."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from stepstream.inputs import ErrorCode
from tests.builders import encode, reading
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.played import by_device
from tests.kafka.test_run import EPOCH_S, headers_of, walk

if TYPE_CHECKING:
    from pathlib import Path

MOST_DEVICES = 1_000
MOST_MIB = 256


def hostile(ids: int) -> list[tuple[bytes, bytes]]:
    """A device at 2 kHz, one from the far future, and one that changes its id all the time."""
    flood = [
        (b"flood", encode(reading(timestamp=EPOCH_S + n / 2000, accel_x=float(n % 7))))
        for n in range(ids // 2)
    ]
    future = [(b"future", encode(reading(timestamp=4e9 + n))) for n in range(ids // 20)]
    fakes = [
        (f"fake-{n}".encode(), encode(reading(timestamp=EPOCH_S + n / ids))) for n in range(ids)
    ]
    return mix(flood, future, fakes)


def mix(*streams: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """All messages, at random, but each stream in its order."""
    random = np.random.default_rng(1)
    order = np.repeat(np.arange(len(streams)), list(map(len, streams)))
    random.shuffle(order)
    sources = list(map(iter, streams))
    return [next(sources[number]) for number in order]


def test_hostile_devices_leave_the_steps_of_others_and_the_memory_alone(
    bootstrap: str, tmp_path: Path
) -> None:
    # How many ids: a test by hand raises it to a million.
    ids = int(os.environ.get("TEST_IDS", "20000"))
    topics, clean = TopicSet.create(bootstrap), TopicSet.create(bootstrap)
    good = walk(8, 20.0, batch=8)
    topics.produce(good[:8] + mix(good[8:], hostile(ids)))
    clean.produce(good)
    port = free_port()
    options = {
        "STEPSTREAM_PROCESSING__MAX_DEVICES": str(MOST_DEVICES),
        "STEPSTREAM_PROCESSING__ON_DEAD_LETTER_LIMIT": "continue",
        "STEPSTREAM_PROCESSING__IDLE_TIMEOUT_S": "3",
        "STEPSTREAM_HTTP__PORT": str(port),
    }
    with RunProcess(clean, tmp_path, "clean") as run:
        clean.wait_consumed()
        usual_mib = run.peak_mib
        assert run.terminate() == 0
    with RunProcess(topics, tmp_path, "hostile", **options) as run:
        topics.wait_consumed(300)
        metrics = read_metrics(port)
        peak_mib = run.peak_mib

        def windows_given_back() -> bool:
            ticks = [f"tick-{n}" for n in range(20)]
            topics.produce([(tick, encode(reading(timestamp=EPOCH_S + 60))) for tick in ticks])
            return read_metrics(port)["stepstream_devices"] <= len(ticks)

        wait_until("idle windows to be freed", windows_given_back)
        assert run.terminate() == 0

    events, expected = by_device(topics.read_events()), by_device(clean.read_events())
    events.pop("flood", None)
    assert events == expected
    assert sum(map(len, events.values())) > 50
    letters = topics.read(topics.dead_letters)
    codes = Counter(headers_of(letter)["stepstream-error"].decode() for letter in letters)
    assert codes[ErrorCode.TIME_IN_FUTURE] == ids // 20
    assert codes[ErrorCode.DEVICE_LIMIT] >= ids - topics.partitions * MOST_DEVICES
    assert codes.keys() == {ErrorCode.TIME_IN_FUTURE, ErrorCode.DEVICE_LIMIT}
    for code in codes:
        assert metrics[f'stepstream_dead_letters_total{{error="{code}"}}'] > 0
    assert metrics["stepstream_devices"] <= topics.partitions * MOST_DEVICES
    assert peak_mib < MOST_MIB, f"{usual_mib:.0f} MiB without hostile devices"


def read_metrics(port: int) -> dict[str, float]:
    lines = [line for line in fetch(port, "/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}
