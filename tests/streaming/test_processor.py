from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.detection import Counters
from stepstream.settings import InputSettings, ProcessingSettings, Settings, TopicSettings
from stepstream.streaming.processor import Processor
from stepstream.streaming.totals import Totals
from tests.builders import encode, reading
from tests.detection.builders import TransparentModel
from tests.detection.builders import walk as walk_readings
from tests.streaming.records import NOW_US, TIME_MS, FakeRecord

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepstream.outputs import OutputRecord
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.partitions import Partition


def processor(**changes: Any) -> tuple[Processor, Partition]:
    made = Processor(TransparentModel(), Settings(processing=ProcessingSettings(**changes)))
    return made, made.add_partition("readings", 3)


def walk(device: str, steps: int, first_offset: int = 0) -> list[FakeRecord]:
    readings, _ = walk_readings(steps)
    return [
        FakeRecord(
            device.encode(),
            encode(
                reading(
                    timestamp=r.time_us / 1e6,
                    accel_x=r.axes[0],
                    accel_y=r.axes[1],
                    accel_z=0,
                    gyro_x=None,
                    gyro_y=None,
                    gyro_z=None,
                )
            ),
            first_offset + i,
            r.stream_ms,
        )
        for i, r in enumerate(readings)
    ]


def walk_in_one_message(device: str, steps: int, offset: int) -> FakeRecord:
    readings, _ = walk_readings(steps)
    columns = {
        "timestamp": [r.time_us / 1e6 for r in readings],
        "accel_x": [r.axes[0] for r in readings],
        "accel_y": [r.axes[1] for r in readings],
        "accel_z": [0] * len(readings),
    }
    return FakeRecord(device.encode(), encode(columns), offset)


def take(made: Processor, partition: Partition, records: Iterable[FakeRecord]) -> Results:
    (results,) = made.process({partition: list(records)}, NOW_US)
    return results


def records_of(results: Results, topic: str) -> list[OutputRecord]:
    return [record for record in results.records if record.topic == topic]


def events(results: Results) -> list[bytes]:
    return [record.value or b"" for record in records_of(results, "step-events")]


def dead_letters(results: Results) -> list[OutputRecord]:
    return records_of(results, "sensor-readings.dlq")


def decoded(results: Results) -> list[dict[str, Any]]:
    return [json.loads(value) for value in events(results)]


def test_all_steps_of_long_messages_are_counted_whoever_shares_the_poll() -> None:
    made, partition = processor()
    devices = ["a", "b", "c"]
    records = [walk_in_one_message(device, 5, n) for n, device in enumerate(devices)]
    found = decoded(take(made, partition, records))
    counts = {d: [e["step_count"] for e in found if e["device_id"] == d] for d in devices}
    assert counts == {device: [1, 2, 3, 4, 5] for device in devices}
    assert len({event["event_id"] for event in found}) == 15


def test_events_carry_count_times_and_the_offset_of_the_completing_reading() -> None:
    made, partition = processor()
    records = walk("phone", 5)
    results = take(made, partition, records)
    _, truth = walk_readings(5)
    found = decoded(results)
    assert [event["step_count"] for event in found] == [1, 2, 3, 4, 5]
    assert [(event["started_at"], event["ended_at"]) for event in found] == [
        (start / 1e6, end / 1e6) for start, end in truth
    ]
    for event in found:
        topic, number, offset, nth = event["event_id"].rsplit("-", 3)
        assert (topic, number, nth) == ("readings", "3", "0")
        completing = json.loads(records[int(offset)].value() or b"")["timestamp"]
        assert 0.3 <= completing - event["ended_at"] <= 0.5
    assert {event["model"] for event in found} == {"transparent-1"}
    assert [record.key for record in records_of(results, "step-events")] == [b"phone"] * 5
    assert results.next_offset == len(records)
    assert results.readings == len(records)


def test_events_are_late_from_the_record_time_of_the_message_that_completed_them() -> None:
    made, partition = processor()
    records = walk("phone", 5)
    results = take(made, partition, records)
    completing = [int(event["event_id"].rsplit("-", 2)[1]) for event in decoded(results)]
    totals = Totals()
    results.times.measure(totals, records[-1].time_ms / 1000)
    late_s = [(records[-1].time_ms - records[offset].time_ms) / 1000 for offset in completing]
    assert len(set(late_s)) == 5
    assert sum(totals.event_lateness_s.counts) == 5
    assert totals.event_lateness_s.total == pytest.approx(sum(late_s))


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 900), max_size=12))
def test_any_cut_into_polls_gives_the_same_events(cuts: list[int]) -> None:
    records = [
        FakeRecord(r.key(), r.value(), n, r.time_ms)
        for n, r in enumerate(
            r for pair in zip(walk("a", 4), walk("b", 4), strict=True) for r in pair
        )
    ]
    whole, partition = processor()
    expected = sorted(events(take(whole, partition, records)))
    made, partition = processor()
    bounds = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    found = [
        event
        for begin, end in pairwise(bounds)
        for event in events(take(made, partition, records[begin:end]))
    ]
    assert sorted(found) == expected
    assert len(expected) == 8


def test_messages_below_the_next_offset_are_passed_over() -> None:
    made, partition = processor()
    records = walk("phone", 5)
    first = take(made, partition, records)
    again = take(made, partition, records)
    assert len(events(first)) == 5
    assert not events(again)
    assert again.next_offset == first.next_offset


def test_an_invalid_message_becomes_a_dead_letter_and_moves_offset_and_stream_time() -> None:
    made, partition = processor()
    broken = FakeRecord(b"phone", b"{", 7, TIME_MS + 5, [("trace", b"1")])
    results = take(made, partition, [broken])
    (letter,) = dead_letters(results)
    assert (letter.key, letter.value) == (b"phone", b"{")
    assert dict(letter.headers) == {
        "trace": b"1",
        "stepstream-error": b"invalid-json",
        "stepstream-error-detail": dict(letter.headers)["stepstream-error-detail"],
        "stepstream-topic": b"readings",
        "stepstream-partition": b"3",
        "stepstream-offset": b"7",
        "stepstream-timestamp": str(TIME_MS + 5).encode(),
    }
    assert results.next_offset == 8
    assert partition.time.ms == TIME_MS + 5
    assert not partition.slots


def test_a_record_time_far_ahead_of_the_clock_does_not_move_stream_time() -> None:
    made, partition = processor()
    far = NOW_US // 1000 + 61_000
    take(made, partition, [FakeRecord(b"a", encode(reading()), 0, TIME_MS)])
    take(made, partition, [FakeRecord(b"a", encode(reading()), 1, far)])
    assert partition.time.ms == TIME_MS


def test_readings_without_a_time_take_that_of_their_record() -> None:
    made, partition = processor()
    untimed = encode(reading(timestamp=None))
    take(made, partition, [FakeRecord(b"a", untimed, 0, TIME_MS)])
    window = made.detector.window(partition.slots[b"a"])
    assert window is not None
    assert window.last_reading_us == TIME_MS * 1000


def test_devices_beyond_the_limit_are_dead_letters_until_idle_ones_leave() -> None:
    made, partition = processor(max_devices=2)
    keys = [b"a", b"b", b"c"]
    records = [FakeRecord(key, encode(reading()), n) for n, key in enumerate(keys)]
    results = take(made, partition, records)
    assert [dict(d.headers)["stepstream-error"] for d in dead_letters(results)] == [b"device-limit"]
    assert set(partition.slots) == {b"a", b"b"}
    late = FakeRecord(b"c", encode(reading()), 3, TIME_MS + 11_000)
    assert not take(made, partition, [late]).dead_letters
    assert set(partition.slots) == {b"c"}


def test_an_idle_device_gives_its_window_back_but_keeps_its_count() -> None:
    made, partition = processor()
    take(made, partition, walk("phone", 3))
    assert made.detector.device_count == 1
    offset, later = partition.next_offset, partition.time.ms + 11_000
    take(made, partition, [FakeRecord(b"other", encode(reading()), offset, later)])
    assert set(partition.slots) == {b"other"}
    entry = partition.ledger.get("phone")
    assert entry is not None
    assert entry.step_count == 3


def test_a_removed_partition_frees_its_devices() -> None:
    made, partition = processor()
    take(made, partition, walk("phone", 1))
    made.remove_partition(partition)
    assert made.detector.device_count == 0


def test_what_is_counted_goes_on_when_the_model_is_replaced() -> None:
    made, partition = processor()
    offset = 0
    for _ in range(2):
        # One late reading, one gap.
        for later_s in (0.0, -0.5, 1.0):
            message = encode(reading(timestamp=TIME_MS / 1000 + later_s))
            take(made, partition, [FakeRecord(b"phone", message, offset, TIME_MS)])
            offset += 1
        made.remove_partition(partition)
        made.replace_model(TransparentModel())
        partition = made.add_partition("readings", 3)
    assert made.counters == Counters(late_readings=2, windows_opened=4, gaps=2)


def test_partitions_share_a_poll_and_keep_their_devices_apart() -> None:
    made, first = processor()
    second = made.add_partition("readings", 4)
    results = made.process({first: walk("phone", 2), second: walk("phone", 3)}, NOW_US)
    assert [(one.partition, len(events(one))) for one in results] == [(first, 2), (second, 3)]


@pytest.mark.parametrize("size", [2, 50, 700])
def test_batched_readings_give_the_same_steps_as_single_ones(size: int) -> None:
    single, partition = processor()
    expected = [
        {k: v for k, v in event.items() if k != "event_id"}
        for event in decoded(take(single, partition, walk("phone", 5)))
    ]
    readings, _ = walk_readings(5)
    axes = np.array([r.axes for r in readings])
    records = []
    for n, begin in enumerate(range(0, len(readings), size)):
        rows = slice(begin, begin + size)
        value = {
            "timestamp": [r.time_us / 1e6 for r in readings[rows]],
            **{
                name: axes[rows, i].tolist()
                for i, name in enumerate(("accel_x", "accel_y", "accel_z"))
            },
        }
        records.append(FakeRecord(b"phone", encode(value), n, readings[begin].stream_ms))
    made, partition = processor()
    found = decoded(take(made, partition, records))
    assert [{k: v for k, v in event.items() if k != "event_id"} for event in found] == expected
    assert len({event["event_id"] for event in found}) == 5


def test_a_device_in_two_partitions_of_a_topic_is_noticed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, partition = processor()
    other, elsewhere = made.add_partition("readings", 4), made.add_partition("more", 0)
    records = walk("phone", 1)
    for one in (partition, elsewhere, partition):
        made.process({one: records[:1]}, NOW_US)
    assert made._totals.devices_in_two_partitions == 0
    made.process({other: records[:1]}, NOW_US)
    assert [getattr(record, "device", "") for record in caplog.records] == [
        "phone in readings-3 and readings-4"
    ]
    made.remove_partition(partition)
    made.process({other: walk("tablet", 1)[1:2]}, NOW_US)
    assert made._totals.devices_in_two_partitions == 1


def test_each_topic_has_a_form_of_its_own() -> None:
    settings = Settings(
        topics=TopicSettings(readings=("readings", "more")),
        input=InputSettings(time_unit="ms"),
        inputs={"more": {"device_id": "header:device", "time_unit": "s"}},
    )
    made = Processor(TransparentModel(), settings)
    given = walk("phone", 3)
    for one in given:
        one.message_headers, one.message_key = [("device", b"phone")], None
    found = decoded(take(made, made.add_partition("more", 0), given))
    assert [event["device_id"] for event in found] == ["phone"] * 3
    (letter, *_) = dead_letters(take(made, made.add_partition("readings", 0), given))
    assert dict(letter.headers)["stepstream-error"] == b"missing-key"
    scaled = walk("phone", 3)
    for one in scaled:
        fields = json.loads(one.message_value or b"")
        one.message_value = encode({**fields, "timestamp": fields["timestamp"] * 1000})
    assert len(decoded(take(made, made.add_partition("readings", 1), scaled))) == 3
