"""Doubts about the units of topics, as they are noticed while readings are processed."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stepstream.detection import Model, default_model_path
from stepstream.detection.sanity import Doubt
from stepstream.settings import InputSettings, ProcessingSettings, Settings
from stepstream.simulation.walkers import Walker
from stepstream.streaming.doubts import KEPT_PIECES
from stepstream.streaming.processor import Processor
from tests.builders import messages
from tests.streaming.records import NOW_US, TIME_MS, FakeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.streaming.partitions import Partition

G = 9.80665
WALKING_FROM_S = 10.0
RIGHT, IN_G, IN_DEGREES = (1.0, 1.0), (1 / G, 1.0), (1.0, 180 / np.pi)


class Fleets:
    """Walkers of some topics, and the processor that gets their readings second by second."""

    def __init__(self, devices: int, **scales: tuple[float, float]) -> None:
        self.made = Processor(Model(default_model_path()), Settings())
        self.partitions = {name: self.made.add_partition(name, 0) for name in scales}
        self.walkers = [Walker(n, 80.0) for n in range(devices)]
        for walker in self.walkers:
            walker.read(WALKING_FROM_S)
        self.scales = scales
        self.second = 0

    def walk(self, seconds: int) -> None:
        for _ in range(seconds):
            second = [walker.read(WALKING_FROM_S + self.second + 1) for walker in self.walkers]
            polled = {p: self._messages(name, p, second) for name, p in self.partitions.items()}
            self.made.process(polled, NOW_US + self.second * 1_000_000)
            self.second += 1

    def _messages(
        self, name: str, partition: Partition, second: Sequence[tuple[Any, Any]]
    ) -> list[FakeRecord]:
        found: list[FakeRecord] = []
        for n, (time_s, axes) in enumerate(second):
            scaled = (axes * np.repeat(self.scales[name], 3)).astype(np.float32)
            # One reading a message: in degrees, some are dead letters.
            for value in messages(TIME_MS / 1000 + time_s - WALKING_FROM_S, scaled):
                offset = partition.next_offset + len(found)
                at_ms = TIME_MS + self.second * 1000
                found.append(FakeRecord(b"device-%d" % n, value, offset, at_ms))
        return found

    def doubts(self) -> dict[str, tuple[Doubt, ...]]:
        return {name: v.doubts for name, v in self.made.doubts.verdicts.items()}


def test_the_topics_with_a_wrong_unit_are_named_within_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fleets = Fleets(5, right=RIGHT, g=IN_G, degrees=IN_DEGREES)
    with caplog.at_level(logging.WARNING, "stepstream.streaming.doubts"):
        fleets.walk(60)
    assert fleets.doubts() == {"g": (Doubt.ACCEL_IN_G,), "degrees": (Doubt.GYRO_IN_DEGREES,)}
    assert len(caplog.messages) == 2
    texts = fleets.made.doubts.texts
    assert len(texts) == 2
    assert "topic g: the typical acceleration is " in texts[1]
    assert "set accel_unit to g" in texts[1]
    assert "set gyro_unit to deg/s" in texts[0]


def test_one_device_is_enough() -> None:
    fleets = Fleets(1, g=IN_G)
    fleets.walk(60)
    assert fleets.doubts() == {"g": (Doubt.ACCEL_IN_G,)}


def test_a_doubt_ends_with_its_cause() -> None:
    fleets = Fleets(5, sensors=IN_G)
    fleets.walk(40)
    assert fleets.doubts()
    fleets.scales["sensors"] = RIGHT
    fleets.walk(2 * KEPT_PIECES // 5)
    assert fleets.doubts() == {}


def test_a_topic_of_which_nothing_comes_is_forgotten() -> None:
    fleets = Fleets(5, sensors=IN_G)
    fleets.walk(40)
    assert fleets.doubts()
    partition = fleets.partitions.pop("sensors")
    other = fleets.made.add_partition("other", 0)
    fleets.partitions["other"], fleets.scales["other"] = other, RIGHT
    fleets.walk(80)
    assert fleets.doubts() == {}
    assert len(partition.slots) == 5, "it is forgotten although its devices have slots"


def test_a_topic_that_goes_to_another_consumer_is_forgotten_at_once() -> None:
    fleets = Fleets(5, sensors=IN_G)
    fleets.walk(40)
    assert fleets.doubts()
    fleets.made.remove_partition(fleets.partitions["sensors"])
    assert fleets.doubts() == {}


@pytest.mark.parametrize(("late_s", "wait_ms", "doubts"), [(1, 200, 1), (1, 1_500, 0), (0, 200, 0)])
def test_a_gyroscope_that_is_always_too_late_is_named_once(
    caplog: pytest.LogCaptureFixture, late_s: int, wait_ms: int, doubts: int
) -> None:
    axes_of = {f"{of}_{a}": f"v.{n}" for of in ("accel", "gyro") for n, a in enumerate("xyz")}
    made_with = Settings(
        input=InputSettings(
            fields={"timestamp": "t", **axes_of},
            sensor={"path": "of", "accelerometer": "acc", "gyroscope": "gyr"},
        ),
        processing=ProcessingSettings(sensor_wait_ms=wait_ms),
    )
    made = Processor(Model(default_model_path()), made_with)
    partition = made.add_partition("phones", 0)
    walkers = [Walker(n, 50.0) for n in range(5)]
    waiting: list[list[tuple[float, str, Any, int]]] = []
    with caplog.at_level(logging.WARNING, "stepstream.streaming.doubts"):
        for second in range(60):
            read = [walker.read(second + 1) for walker in walkers]
            now, later = (
                [
                    (at, of, values.tolist(), number)
                    for number, (time_s, axes) in enumerate(read)
                    for at, values in zip(time_s.tolist(), axes[:, columns], strict=True)
                ]
                for of, columns in (("acc", slice(0, 3)), ("gyr", slice(3, 6)))
            )
            waiting.append(later)
            due = waiting.pop(0) if len(waiting) > late_s else []
            sent = sorted(now + due, key=lambda one: one[0] + (late_s if one[1] == "gyr" else 0))
            records = [
                FakeRecord(
                    b"phone-%d" % number,
                    json.dumps({"t": TIME_MS / 1000 + at, "of": of, "v": v}).encode(),
                    partition.next_offset + row,
                    TIME_MS + second * 1000,
                )
                for row, (at, of, v, number) in enumerate(sent)
            ]
            made.process({partition: records}, NOW_US + second * 1_000_000)
    assert made.doubts.verdicts.keys() == ({"phones"} if doubts else set())
    assert [text for text in caplog.messages if "come too late and are not used" in text] == (
        caplog.messages
    )
    assert len(caplog.messages) == doubts
    assert (made.counters.late_gyro_samples > 1_000) == bool(doubts)


def test_single_devices_with_a_wrong_unit_are_named_and_others_are_not() -> None:
    fleets = Fleets(3, right=RIGHT, g=IN_G)
    fleets.walk(12)
    doubts, devices = fleets.made.doubts, fleets.made.devices
    found = doubts.of_devices(devices)
    named = {(devices[slot].partition.topic, devices[slot].device_id) for slot in found}
    assert named == {("g", f"device-{n}") for n in range(3)}
    assert set(found.values()) == {Doubt.ACCEL_IN_G}
    devices.release_all(fleets.partitions["g"])
    assert doubts.of_devices(devices) == {}
