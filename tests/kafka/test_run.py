"""``stepstream run`` as a process, on a real broker."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stepstream.inputs import ErrorCode
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.builders import encode, reading
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.played import Played, by_device

if TYPE_CHECKING:
    from pathlib import Path

    from confluent_kafka import Message

EPOCH_S = 1_700_000_000


def walk(devices: int, seconds: float, batch: int = 1) -> list[tuple[bytes, bytes]]:
    """Messages of simulated walkers, in the order of time."""
    fleet = [Device(f"device-{n}", Walker(n, 80.0)) for n in range(devices)]
    stream = messages(fleet, EPOCH_S, seconds, batch=batch)
    return [(message.key, message.value) for message in stream]


def headers_of(message: Message) -> dict[str, bytes]:
    return dict(message.headers() or [])  # type: ignore[arg-type]


def test_two_consumers_publish_once_what_detect_finds_in_the_recordings(
    topics: TopicSet, recordings: Path, tmp_path: Path
) -> None:
    played = Played(topics, recordings, tmp_path / "truth.jsonl")
    with RunProcess(topics, tmp_path, "a") as first, RunProcess(topics, tmp_path, "b") as second:
        first.wait_for_log("partition started")
        second.wait_for_log("partition started")
        assert played.start(speed=60).wait(120) == 0
        topics.wait_consumed()
        assert first.is_alive
        assert second.is_alive
    published = topics.read_events()
    assert by_device(published) == played.expected()
    assert max(Counter(event["event_id"] for event in published).values()) == 1


def broken_messages() -> list[tuple[bytes | None, bytes | None, ErrorCode]]:
    """One message for each way to be wrong."""
    key = b"device-0"
    column = [1.0] * 3
    batch: dict[str, object] = dict.fromkeys(reading(), column)
    untimed = {name: field for name, field in batch.items() if name != "timestamp"}
    return [
        (key, b"not json", ErrorCode.INVALID_JSON),
        (key, encode(reading())[:-1], ErrorCode.INVALID_JSON),
        (key, b"\xff\xfe{}", ErrorCode.INVALID_JSON),
        (key, None, ErrorCode.NULL_VALUE),
        (key, encode(reading(accel_y=None)), ErrorCode.MISSING_FIELD),
        (key, encode(reading(gyro_z=None)), ErrorCode.MISSING_FIELD),
        (key, encode(reading(accel_x="1")), ErrorCode.WRONG_TYPE),
        (key, encode(reading(accel_x=True)), ErrorCode.WRONG_TYPE),
        (key, b"[1, 2]", ErrorCode.WRONG_TYPE),
        (key, encode(reading(accel_x=float("nan"))), ErrorCode.NOT_FINITE),
        (key, encode(reading(gyro_x=float("inf"))), ErrorCode.NOT_FINITE),
        (key, encode(reading(accel_z=401)), ErrorCode.OUT_OF_RANGE),
        (key, encode(reading(gyro_z=-101)), ErrorCode.OUT_OF_RANGE),
        (None, encode(reading()), ErrorCode.MISSING_KEY),
        (b"x" * 257, encode(reading()), ErrorCode.INVALID_DEVICE_ID),
        (b"\xff", encode(reading()), ErrorCode.INVALID_DEVICE_ID),
        (b'"device-0"', encode(reading()), ErrorCode.INVALID_DEVICE_ID),
        (key, encode(reading(device_id="device-1")), ErrorCode.KEY_MISMATCH),
        (key, encode({**batch, "accel_x": [1.0]}), ErrorCode.UNEQUAL_COLUMNS),
        (key, encode({**batch, "accel_x": 1.0}), ErrorCode.UNEQUAL_COLUMNS),
        (key, encode(untimed), ErrorCode.MISSING_TIMESTAMP),
        (key, encode({name: [1.0] * 10_001 for name in reading()}), ErrorCode.TOO_MANY_READINGS),
        (key, encode(reading(note="x" * (1 << 20))), ErrorCode.TOO_LARGE),
        (key, encode(reading(timestamp=4_000_000_000)), ErrorCode.TIME_IN_FUTURE),
    ]  # fmt: skip


def test_broken_messages_become_dead_letters_and_all_others_are_processed(
    bootstrap: str, tmp_path: Path
) -> None:
    # How many messages: a test by hand raises it.
    wanted = int(os.environ.get("TEST_MESSAGES", "6000"))
    topics = TopicSet.create(bootstrap, large_messages=True)
    good: list[tuple[bytes | None, bytes | None]] = []
    good += walk(max(1, wanted // 1600), 20.0)[:wanted]
    broken = broken_messages()
    random = np.random.default_rng(1)
    mixed = list(good)
    sent = [broken[n % len(broken)] for n in range(max(len(broken), len(good) // 100))]
    for key, value, _ in sent:
        mixed.insert(int(random.integers(len(mixed))), (key, value))
    topics.produce(mixed)
    with RunProcess(topics, tmp_path) as run:
        topics.wait_consumed()
        assert run.terminate() == 0

    letters = topics.read(topics.dead_letters)
    found = Counter(
        (letter.key(), letter.value(), headers_of(letter)["stepstream-error"].decode())
        for letter in letters
    )
    cut = {ErrorCode.TOO_LARGE}
    expected = Counter(
        (key, value and value[: 64 << 10] if code in cut else value, str(code))
        for key, value, code in sent
    )
    assert found == expected
    origins = {p: set[int]() for p in range(topics.partitions)}
    for letter in letters:
        headers = headers_of(letter)
        assert headers["stepstream-topic"] == topics.readings.encode()
        assert headers["stepstream-error-detail"]
        assert ("stepstream-truncated" in headers) == (headers["stepstream-error"] == b"too-large")
        origins[int(headers["stepstream-partition"])].add(int(headers["stepstream-offset"]))
    assert sum(map(len, origins.values())) == len(sent)

    clean = TopicSet.create(bootstrap)
    clean.produce(good)
    with RunProcess(clean, tmp_path, "clean") as run:
        clean.wait_consumed()
        assert run.terminate() == 0
    events = by_device(topics.read_events())
    assert events == by_device(clean.read_events())
    assert sum(map(len, events.values())) > 10


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_every_guarantee_and_protocol_publishes_the_steps_and_leaves_in_good_order(
    topics: TopicSet, tmp_path: Path, guarantee: str, protocol: str
) -> None:
    topics.produce(walk(4, 12.0, batch=20))
    options = {
        "STEPSTREAM_PROCESSING__GUARANTEE": guarantee,
        "STEPSTREAM_KAFKA__GROUP_PROTOCOL": protocol,
    }
    with RunProcess(topics, tmp_path, **options) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    events = topics.read_events()
    counts = {device: [n for n, *_ in steps] for device, steps in by_device(events).items()}
    assert counts
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in counts.values())
    wait_until("an empty group", lambda: not topics.describe_group().members)


def test_a_consumer_that_joins_and_leaves_loses_and_repeats_no_reading(
    topics: TopicSet, tmp_path: Path
) -> None:
    stream = walk(12, 24.0, batch=5)
    third = len(stream) // 3
    with RunProcess(topics, tmp_path, "a") as first:
        first.wait_for_log("partition started")
        topics.produce(stream[:third])
        with RunProcess(topics, tmp_path, "b") as second:
            topics.produce(stream[third : 2 * third])
            second.wait_for_log("partition started")
            topics.wait_consumed()
            assert second.terminate() == 0
        topics.produce(stream[2 * third :])
        topics.wait_consumed()
        assert first.terminate() == 0
    names = Counter(event["event_id"] for event in topics.read_events())
    assert names
    assert max(names.values()) == 1


def test_a_missing_topic_stops_the_start_and_says_what_to_do(
    topics: TopicSet, tmp_path: Path
) -> None:
    with RunProcess(topics, tmp_path, STEPSTREAM_TOPICS__READINGS="not-there") as run:
        wait_until("the end of the process", lambda: not run.is_alive)
        assert run.terminate() == 1
    assert "stepstream topics" in run.log.read_text()


def test_a_full_outbox_pauses_reading_and_loses_nothing(topics: TopicSet, tmp_path: Path) -> None:
    topics.produce(walk(10, 20.0, batch=10))
    options = {
        "STEPSTREAM_PROCESSING__OUTBOX_MAX_RECORDS": "1",
        "STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "400",
    }
    with RunProcess(topics, tmp_path, "small", **options) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert "reading is paused" in run.log.read_text()
    assert "reading continues" in run.log.read_text()
    small = by_device(topics.read_events())

    again = replace(topics, group=f"{topics.group}-again")
    with RunProcess(again, tmp_path, "large") as run:
        again.wait_consumed()
        assert run.terminate() == 0
    both = by_device(topics.read_events())
    assert sum(map(len, small.values())) > 100
    assert {device: sorted(steps * 2) for device, steps in small.items()} == {
        device: sorted(steps) for device, steps in both.items()
    }
