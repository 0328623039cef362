"""Commands to forget devices: in their order, once, and again in a replay."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stepstream.settings import OutputSettings, Settings, TopicSettings
from stepstream.streaming.forgetting import COMMAND_HEADER, COMMAND_KEY, Part, split_messages
from stepstream.streaming.processor import Processor
from tests.detection.builders import TransparentModel
from tests.detection.split_streams import SplitStream, split_streams
from tests.detection.streams import Stream, streams
from tests.streaming.records import FakeRecord
from tests.streaming.test_processor import dead_letters, decoded, processor, take, walk
from tests.streaming.test_recovery import (
    SPLIT,
    Consumer,
    Kafka,
    by_device,
    messages,
    run,
)
from tests.streaming.test_recovery import (
    split_messages as split_sensor_messages,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADERS: list[tuple[str, bytes | None]] = [(COMMAND_HEADER, b"1")]


SOON = OutputSettings(walk_gap_s=0.7, grace_s=0.1)


def command(offset: int, *devices: str, time_ms: int = 0) -> FakeRecord:
    value = json.dumps(devices).encode()
    return FakeRecord(COMMAND_KEY, value, offset, time_ms, list(HEADERS))


def with_commands(
    log: Sequence[FakeRecord], places: Sequence[tuple[int, str]]
) -> tuple[list[FakeRecord], list[int]]:
    """A log with commands in it, at new offsets; and their rows.

    A last message moves stream time so far that all minutes and walks are final.
    """
    after = {place % len(log): device for place, device in places}
    made: list[FakeRecord] = []
    rows = []
    for n, record in enumerate(log):
        made.append(replace(record, message_offset=len(made)))
        if n in after:
            rows.append(len(made))
            made.append(command(len(made), after[n], time_ms=record.time_ms))
    far_ms = log[-1].time_ms + 3_600_000
    made.append(FakeRecord(b"other", b"{}", len(made), far_ms))
    return made, rows


def check_groups(one: Kafka, other: Kafka) -> None:
    assert by_device(one.events) == by_device(other.events)
    assert by_device(one.minutes) == by_device(other.minutes)
    assert by_device(one.walks) == by_device(other.walks)


def test_a_forgotten_device_is_counted_from_1_and_its_record_gets_a_tombstone() -> None:
    made, partition = processor()
    first, second = walk("phone", 4), walk("phone", 4, first_offset=1_000)
    counts = decoded(take(made, partition, first))
    assert [event["step_count"] for event in counts] == [1, 2, 3, 4]
    forgotten = take(made, partition, [command(900, "phone", "unknown")])
    (record,) = forgotten.latest.values()
    assert (json.loads(record.key or b"")[2], record.value) == ("phone", None)
    assert (record.topic, record.partition) == ("stepstream-state", 3)
    assert partition.ledger.get("phone") is None
    assert partition.slots == {}
    assert forgotten.next_offset == 901
    # The readings come again, with the same times: nothing is known of the first ones.
    results = take(made, partition, second)
    assert [event["step_count"] for event in decoded(results)] == [1, 2, 3, 4]
    assert not dead_letters(forgotten)


def test_the_latest_count_gets_a_tombstone_too() -> None:
    made = Processor(TransparentModel(), Settings(topics=TopicSettings(counts="counts")))
    partition = made.add_partition("readings", 3)
    results = take(made, partition, [*walk("phone", 4), command(900, "phone", "unknown")])
    latest = {topic: (key, record.value) for (topic, key), record in results.latest.items()}
    assert latest["counts"] == (b"phone", None)
    assert latest["stepstream-state"][1] is None
    assert len(results.latest) == 2


def test_within_one_poll_what_comes_before_is_published_and_the_last_record_wins() -> None:
    made, partition = processor()
    first, second = walk("phone", 4), walk("phone", 4, first_offset=1_000)
    results = take(made, partition, [*first, command(900, "phone"), *second])
    assert [event["step_count"] for event in decoded(results)] == [1, 2, 3, 4, 1, 2, 3, 4]
    (record,) = results.latest.values()
    assert json.loads(record.value or b"")["step_count"] == 4
    assert results.messages == len(first) + 1 + len(second)
    results = take(made, partition, [command(2_000, "phone")])
    assert [record.value for record in results.latest.values()] == [None]


@pytest.mark.parametrize(
    ("value", "code"),
    [(None, b"null-value"), (b"{", b"wrong-type"), (b'{"a": 1}', b"wrong-type"),
     (b"[1]", b"wrong-type"), (b"\xff", b"wrong-type")],
)  # fmt: skip
def test_a_command_that_says_nothing_is_a_dead_letter(value: bytes | None, code: bytes) -> None:
    made, partition = processor()
    take(made, partition, walk("phone", 4))
    results = take(made, partition, [replace(command(900), message_value=value)])
    (letter,) = dead_letters(results)
    assert dict(letter.headers)["stepstream-error"] == code
    assert partition.ledger.get("phone") is not None


def test_a_device_with_the_name_of_a_command_is_a_device() -> None:
    made, partition = processor()
    results = take(made, partition, walk(COMMAND_KEY.decode(), 4))
    assert [event["step_count"] for event in decoded(results)] == [1, 2, 3, 4]


def test_parts_end_with_commands_and_where_a_replay_ends() -> None:
    log = [*walk("a", 1)[:3], command(3, "a"), command(4, "b"), *walk("a", 1, first_offset=5)[:3]]
    parts = split_messages(log, 1, 6)
    assert parts == [
        Part(log[1:3], [b"a"] * 2, log[3]),
        Part([], [], log[4]),
        Part(log[5:6], [b"a"]),
        Part(log[6:8], [b"a"] * 2),
    ]
    assert split_messages(log, 8, 6) == []
    assert split_messages(log, 5, 5) == [Part(log[5:], [b"a"] * 3)]


places = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(["device-0", "device-1"])),
    min_size=1,
    max_size=4,
)


@given(streams(in_step=True), places, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_cuts_and_crashes_change_nothing(
    stream: Stream, chosen: list[tuple[int, str]], seed: int
) -> None:
    log = messages(stream)
    assume(log)
    log, rows = with_commands(log, chosen)
    at_once = Kafka(log, output=SOON)
    consumer = Consumer(at_once)
    consumer.poll(len(log))
    consumer.commit()
    crashed = run(Kafka(log, output=SOON), seed, crashes=True)
    check_groups(crashed, at_once)
    assert crashed.dead_letters == at_once.dead_letters
    state = dict(crashed.state)
    assert {key for key, value in state.items() if value} == {
        key for key, value in dict(at_once.state).items() if value
    }
    # Each device's events are those of its readings between two commands, each time from 1.
    for device, found in by_device(at_once.events).items():
        bounds = [row for row in rows if log[row].message_value == json.dumps([device]).encode()]
        alone = []
        for begin, end in zip([0, *bounds], [*bounds, len(log)], strict=True):
            part = [one for one in log[begin:end] if one.message_key == device.encode()]
            if part:
                alone += run(Kafka(part), seed, crashes=False).events
        assert found == alone


@given(split_streams(in_step=True), places, st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_cuts_and_crashes_change_nothing_where_sensors_send_apart(
    stream: SplitStream, chosen: list[tuple[int, str]], seed: int
) -> None:
    log = split_sensor_messages(stream)
    assume(log)
    log, _ = with_commands(log, chosen)
    expected = run(Kafka(log, input=SPLIT, output=SOON), seed, crashes=False, most=len(log) + 2)
    crashed = run(Kafka(log, input=SPLIT, output=SOON), seed, crashes=True)
    check_groups(crashed, expected)
