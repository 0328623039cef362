"""What comes of each device: how much, and which ones fell silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.streaming import device_traffic
from stepstream.streaming.device_traffic import DeviceTraffic
from tests.streaming.records import NOW_US
from tests.streaming.test_processor import processor, take, walk_in_one_message

if TYPE_CHECKING:
    import pytest

SECOND_US = 1_000_000


def slots(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.intp)


def test_rates_are_those_of_the_last_ten_seconds_that_are_over() -> None:
    traffic = DeviceTraffic()
    for second in range(10):
        traffic.note_readings(slots(0, 0, 0, 7), NOW_US + second * SECOND_US)
    assert traffic.rates(slots(0, 7), NOW_US + 9 * SECOND_US).tolist() == [0, 0]
    at_us = NOW_US + 10 * SECOND_US
    assert traffic.rates(slots(0, 7, 9), at_us).tolist() == [3, 1, 0]
    traffic.note_readings(slots(7), at_us)
    assert traffic.rates(slots(0, 7, 5_000), at_us + SECOND_US).tolist() == [3, 1, 0]
    assert traffic.rates(slots(0, 7), at_us + 20 * SECOND_US).tolist() == [0, 0.05]


def test_a_clock_that_is_set_back_begins_anew() -> None:
    traffic = DeviceTraffic()
    traffic.note_readings(slots(0), NOW_US)
    traffic.note_readings(slots(0), NOW_US - 60 * SECOND_US)
    assert traffic.rates(slots(0), NOW_US - 50 * SECOND_US).tolist() == [0.1]


def test_a_slot_says_nothing_of_the_device_that_had_it_before() -> None:
    _, partition = processor()
    traffic = DeviceTraffic()
    traffic.note_readings(slots(*[3] * 50), NOW_US)
    traffic.note_readings(slots(*[3] * 50), NOW_US + 10 * SECOND_US)
    traffic.begin(partition, b"new", 3)
    assert traffic.rates(slots(3), NOW_US + 20 * SECOND_US).tolist() == [0]


def test_devices_that_fell_silent_are_remembered_until_they_are_back_or_forgotten() -> None:
    made, partition = processor()
    take(made, partition, [walk_in_one_message("a", 2, 0), walk_in_one_message("b", 2, 1)])
    assert made.devices.traffic.silent == []
    late = walk_in_one_message("c", 2, 2)
    late.time_ms += 60_000
    take(made, partition, [late])
    silent = made.devices.traffic.silent
    assert {one.key for one in silent} == {b"a", b"b"}
    assert all(one.partition is partition for one in silent)
    again = walk_in_one_message("a", 2, 3)
    again.time_ms += 60_000
    take(made, partition, [again])
    assert [one.key for one in made.devices.traffic.silent] == [b"b"]
    made.devices.release(partition, b"b")
    assert made.devices.traffic.silent == []


def test_silent_devices_are_bounded_and_go_with_their_partition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_traffic, "MAX_SILENT", 3)
    made, partition = processor()
    traffic = DeviceTraffic()
    for number in range(5):
        traffic.note_silent(partition, b"%d" % number, number)
    assert [one.key for one in traffic.silent] == [b"2", b"3", b"4"]
    traffic.forget_all(made.add_partition(partition.topic, partition.number + 1))
    assert len(traffic.silent) == 3
    traffic.forget_all(partition)
    assert traffic.silent == []
