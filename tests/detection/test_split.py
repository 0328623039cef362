"""Devices whose accelerometer and gyroscope send apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from stepstream.detection import (
    ACCELEROMETER,
    GYROSCOPE,
    Model,
    Rules,
    default_model_path,
    detect_series,
)
from tests.builders import load_walk
from tests.detection import split_oracle
from tests.detection.builders import EPOCH_US, Feed, Reading, TransparentModel, by_device, walk
from tests.detection.split_streams import Message, SplitStream, flat, split_streams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from tests.detection.builders import Found

CUTS = st.lists(st.integers(0, 300), max_size=30)
WAIT_US = 200_000
SAMPLE_US = 12_500


def feed_messages(feed: Feed, messages: Sequence[Message], cuts: Iterable[int]) -> list[Found]:
    """Feed messages; between two cuts, all at once."""
    bounds = sorted({0, len(messages), *(min(cut, len(messages)) for cut in cuts)})
    for begin, end in pairwise(bounds):
        feed.feed(flat(messages[begin:end]))
    return feed.found


def numbered(messages: Iterable[Message]) -> list[Message]:
    """Messages with offsets in their order."""
    return [[replace(r, offset=n) for r in message] for n, message in enumerate(messages)]


def sensor(
    readings: Iterable[Reading], bit: int, *, late_us: int = 0, size: int = 1
) -> list[tuple[int, Message]]:
    """One sensor's messages of joined readings, with the times of their delivery."""
    of_one = [replace(r, sensors=bit) for r in readings]
    messages = [of_one[begin : begin + size] for begin in range(0, len(of_one), size)]
    return [(message[-1].time_us + late_us, message) for message in messages]


def delivered(*sensors: list[tuple[int, Message]]) -> list[Message]:
    """Messages of several sensors in the order of delivery, with offsets and stream time."""
    every = sorted((m for one in sensors for m in one), key=lambda m: m[0])
    return numbered(
        [replace(r, stream_ms=at_us // 1000) for r in message] for at_us, message in every
    )


def moments(found: Iterable[Found]) -> list[tuple[int, int]]:
    return [(start, end) for _, start, end, *_ in found]


def turning(readings: Iterable[Reading]) -> list[Reading]:
    """The readings with a signal of the gyroscope."""
    return [
        replace(r, axes=(*r.axes[:3], 0.0, 0.0, float(np.sin(r.time_us / 1e5)))) for r in readings
    ]


@settings(max_examples=60)
@given(stream=split_streams(in_step=False), cuts=CUTS, hops_ahead=st.sampled_from([1, 2, 7, 256]))
def test_any_cut_of_any_interleaving_gives_what_each_device_alone_gives(
    stream: SplitStream, cuts: list[int], hops_ahead: int
) -> None:
    rules = Rules()
    found = by_device(feed_messages(Feed(rules, hops_ahead), stream.messages, cuts))
    for device in range(len(stream.devices)):
        alone = [message for message in stream.messages if message[0].device == device]
        expected = split_oracle.detect(alone, TransparentModel(), rules)
        event(f"{min(len(expected), 3)} steps or more")
        assert found.get(device, []) == expected


@settings(max_examples=60)
@given(
    stream=split_streams(in_step=True),
    share=st.floats(0, 1),
    earlier=st.integers(0, 60),
    cuts=CUTS,
    cuts_before=CUTS,
)
def test_a_suffix_from_the_replay_offset_or_before_gives_the_same_later_steps(
    stream: SplitStream, share: float, earlier: int, cuts: list[int], cuts_before: list[int]
) -> None:
    count = round(share * len(stream.messages))
    committed, rest = stream.messages[:count], stream.messages[count:]
    whole = Feed()
    feed_messages(whole, committed, cuts_before)
    later = whole.feed(flat(rest))

    again = Feed()
    feed_messages(again, committed, cuts_before)
    slots = np.array(list(again.slots.values()), np.intp)
    now_ms = committed[-1][0].stream_ms if committed else 0
    point = again.detector.replay_point(slots, now_ms)
    next_offset = committed[-1][0].offset + 1 if committed else 0
    replay, at_ms = point or (next_offset, now_ms)
    assert all(m[0].stream_ms == at_ms for m in committed if m[0].offset == replay)
    suffix = [message for message in stream.messages if message[0].offset >= replay - earlier]
    replayed = feed_messages(Feed(), suffix, cuts)
    event(f"{min(len(later), 3)} later steps or more")
    assert by_device(s for s in replayed if s[5] >= next_offset) == by_device(later)


@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1, 4, 20]))
def test_any_interleaving_within_the_waiting_time_gives_the_same_steps(
    seed: int, size: int
) -> None:
    random = np.random.default_rng(seed)
    accel = sensor(turning(walk(6, rate_hz=50)[0]), ACCELEROMETER, size=size)
    gyro = sensor(turning(walk(6, rate_hz=100)[0]), GYROSCOPE, size=size * 2)
    in_time = delivered(accel, gyro)
    expected = Feed().feed(flat(in_time))
    queues = [[message for _, message in accel], [message for _, message in gyro]]
    newest_us = [EPOCH_US, EPOCH_US]
    mixed: list[Message] = []
    while any(queues):
        # Either sensor may be next that doesn't come too early for the other.
        able = [
            n
            for n, queue in enumerate(queues)
            if queue and queue[0][0].time_us - newest_us[1 - n] <= WAIT_US - SAMPLE_US
        ]
        chosen = int(random.choice(able or [n for n, queue in enumerate(queues) if queue]))
        message = queues[chosen].pop(0)
        newest_us[chosen] = message[-1].time_us
        mixed.append(message)
    found = Feed().feed(flat(numbered(mixed)))
    assert len(expected) == 6
    assert [step[:5] for step in found] == [step[:5] for step in expected]


def test_sensors_that_measure_at_the_same_times_give_exactly_the_joined_steps() -> None:
    readings = turning(walk(8)[0])
    joined = Feed().feed(readings)
    messages = delivered(sensor(readings, ACCELEROMETER), sensor(readings, GYROSCOPE))
    found = Feed().feed(flat(messages))
    assert [step[:5] for step in found] == [step[:5] for step in joined]
    # The message that completes a step is that of the sensor that comes last.
    assert [step[5] for step in found] == [2 * step[5] + 1 for step in joined]


def test_both_sensors_in_one_message_are_joined_however_long_it_is() -> None:
    readings = turning(walk(8)[0])
    messages = [
        flat(m for _, m in (*sensor(part, ACCELEROMETER), *sensor(part, GYROSCOPE)))
        for part in (readings[:500], readings[500:])
    ]
    both = [[replace(r, sensors=ACCELEROMETER | GYROSCOPE) for r in readings]]
    joined = [step[:5] for step in Feed().feed(readings)]
    assert [step[:5] for step in Feed().feed(flat(numbered(messages)))] == joined
    assert [step[:5] for step in Feed().feed(flat(numbered(both)))] == joined


def test_a_recording_of_two_sensors_is_taken_in_the_order_of_their_times() -> None:
    readings = turning(walk(8)[0])
    joined = Feed().feed(readings)
    rows = [r for r in readings for _ in range(2)]
    for order in (slice(None), [*range(0, len(rows), 2), *range(1, len(rows), 2)]):
        chosen = np.arange(len(rows))[order]
        steps = detect_series(
            TransparentModel(),
            np.array([rows[n].time_us for n in chosen]),
            np.array([rows[n].axes for n in chosen], np.float32),
            sensors=np.where(chosen % 2, GYROSCOPE, ACCELEROMETER).astype(np.uint8),
        )
        assert list(zip(steps.start_us, steps.end_us, strict=True)) == moments(joined)
        # The row of the gyroscope that completed the step.
        assert [chosen[n] for n in steps.offset] == [2 * step[5] + 1 for step in joined]


def test_joined_and_split_devices_are_found_in_one_call() -> None:
    readings, truth = walk(5)
    split = delivered(
        sensor([replace(r, device=1) for r in readings], ACCELEROMETER),
        sensor([replace(r, device=1) for r in readings], GYROSCOPE),
    )
    found = by_device(Feed().feed([*readings, *flat(split)]))
    assert {device: moments(steps) for device, steps in found.items()} == {0: truth, 1: truth}


@pytest.fixture(scope="module")
def recorded(recordings: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    time_s, axes = load_walk(recordings)
    return time_s[: 80 * 60], axes[: 80 * 60]


def _measured(
    time_s: NDArray[np.float64], axes: NDArray[np.float32], rate_hz: float, shift_s: float = 0.0
) -> list[Reading]:
    """A recording as sensors of another rate would give it."""
    at_s = np.arange(0.001, time_s[-1], 1 / rate_hz)
    values = np.stack([np.interp(at_s, time_s, column) for column in axes.T], axis=1)
    times_us = EPOCH_US + np.rint((at_s + shift_s) * 1e6).astype(np.int64)
    return [
        Reading(0, int(t), tuple(row), 0, int(t) // 1000)
        for t, row in zip(times_us, values.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    ("accel_hz", "gyro_hz", "clock_s", "late_s"),
    [(50, 100, 0.0, 0.0), (100, 50, 0.0, 0.15), (80, 80, 0.004, 0.05), (200, 25, 0.0, 0.1)],
)
def test_real_walking_gives_the_joined_steps_within_a_sample(
    recorded: tuple[NDArray[np.float64], NDArray[np.float32]],
    accel_hz: int,
    gyro_hz: int,
    clock_s: float,
    late_s: float,
) -> None:
    model = Model(default_model_path())
    joined = moments(Feed(model=model).feed(_measured(*recorded, accel_hz)))
    messages = delivered(
        sensor(_measured(*recorded, accel_hz), ACCELEROMETER),
        sensor(_measured(*recorded, gyro_hz, clock_s), GYROSCOPE, late_us=round(late_s * 1e6)),
    )
    found = moments(Feed(model=model).feed(flat(messages)))
    assert len(joined) > 60
    # A gyroscope of 25 Hz, or with a clock of its own, says something else: a step at a threshold
    # may be one or none.
    assert abs(len(found) - len(joined)) <= (2 if clock_s else 1)
    nearest = np.abs(np.array(found)[:, np.newaxis] - np.array(joined)).max(axis=2).min(axis=0)
    samples_off = nearest // SAMPLE_US
    assert np.mean(samples_off <= 1) > 0.97
    assert np.median(samples_off) == 0


def test_a_device_that_has_no_gyroscope_waits_only_where_its_window_begins() -> None:
    readings, truth = walk(8)
    found = Feed().feed(flat(delivered(sensor(readings, ACCELEROMETER))))
    assert moments(found) == truth
    assert found == Feed().feed(readings)


def test_a_gyroscope_that_is_a_second_behind_counts_as_missing() -> None:
    readings = turning(walk(8)[0])
    accel = sensor(readings, ACCELEROMETER)
    alone = Feed().feed(flat(delivered(accel)))
    behind = delivered(accel, sensor(readings, GYROSCOPE, late_us=1_000_000))
    late = Feed()
    assert [step[:5] for step in late.feed(flat(behind))] == [step[:5] for step in alone]
    assert late.detector.counters.late_gyro_samples == len(readings)
    assert late.detector.has_late_gyroscope(late.slots[0])

    in_time = delivered(accel, sensor(readings, GYROSCOPE, late_us=100_000))
    joined = Feed()
    assert [step[:5] for step in joined.feed(flat(in_time))] != [step[:5] for step in alone]
    assert joined.detector.counters.late_gyro_samples == 0
    assert not joined.detector.has_late_gyroscope(joined.slots[0])


@given(cuts=st.lists(st.integers(0, 2000), max_size=30), late_ms=st.integers(150, 400))
def test_late_samples_of_a_gyroscope_are_counted_alike_in_any_cut(
    cuts: list[int], late_ms: int
) -> None:
    readings = turning(walk(4)[0])
    messages = delivered(
        sensor(readings, ACCELEROMETER, size=5),
        sensor(readings, GYROSCOPE, size=7, late_us=late_ms * 1000),
    )
    whole, pieces = Feed(), Feed()
    whole.feed(flat(messages))
    feed_messages(pieces, messages, cuts)
    assert pieces.detector.counters == whole.detector.counters


def test_a_gyroscope_for_which_a_longer_time_is_set_is_waited_for() -> None:
    readings = turning(walk(8)[0])
    joined = [step[:5] for step in Feed().feed(readings)]
    messages = delivered(
        sensor(readings, ACCELEROMETER), sensor(readings, GYROSCOPE, late_us=1_000_000)
    )
    feed = Feed(Rules(sensor_wait_us=1_100_000))
    assert [step[:5] for step in feed.feed(flat(messages))] == joined


@pytest.mark.parametrize("size", [80, 160])
def test_batches_of_one_sensor_wait_for_those_of_the_other(size: int) -> None:
    readings = turning(walk(8)[0])
    joined = [step[:5] for step in Feed().feed(readings)]
    messages = delivered(
        sensor(readings, ACCELEROMETER, size=size),
        sensor(readings, GYROSCOPE, size=size, late_us=300_000),
    )
    assert [step[:5] for step in Feed().feed(flat(messages))] == joined


@pytest.mark.parametrize("turns", [(0.0, 0.5), (0.5, 1.0), (0.3, 0.6)])
def test_steps_go_on_while_a_gyroscope_stops_and_starts(turns: tuple[float, float]) -> None:
    readings, truth = walk(12)
    begin, end = (round(share * len(readings)) for share in turns)
    messages = delivered(
        sensor(turning(readings), ACCELEROMETER),
        sensor(turning(readings)[begin:end], GYROSCOPE, late_us=50_000),
    )
    feed = Feed()
    assert len(feed.feed(flat(messages))) == len(truth)
    assert feed.detector.counters.windows_opened == 1
    assert feed.detector.counters.gaps == 0


def test_there_are_no_steps_while_the_accelerometer_is_silent() -> None:
    readings, truth = walk(12)
    hole = (truth[4][1] + 600_000, truth[8][1])
    kept = [r for r in readings if not hole[0] < r.time_us < hole[1]]
    split = delivered(sensor(kept, ACCELEROMETER), sensor(turning(readings), GYROSCOPE))
    feed = Feed()
    # The first end after the hole counts with the second; its start is in the hole, so it is any.
    ends = [step[2] for step in feed.feed(flat(split))]
    assert ends == [step[2] for step in Feed().feed(kept)]
    assert feed.detector.counters.gaps == 1


def test_late_readings_of_each_sensor_are_dropped_and_counted() -> None:
    readings = turning(walk(6)[0])
    messages = delivered(sensor(readings, ACCELEROMETER), sensor(readings, GYROSCOPE))
    expected = Feed().feed(flat(messages))
    again = [m for n, message in enumerate(messages) for m in (message, messages[max(0, n - 9)])]
    feed = Feed()
    now_ms = [message[0].stream_ms for message in again[::2] for _ in range(2)]
    noisy = [
        [replace(r, offset=n, stream_ms=ms) for r in message]
        for n, (message, ms) in enumerate(zip(again, now_ms, strict=True))
    ]
    assert [s[:5] for s in feed.feed(flat(noisy))] == [s[:5] for s in expected]
    assert feed.detector.counters.late_readings == len(messages)


@pytest.mark.parametrize(("silence_ms", "count"), [(9_000, 6), (11_000, 5)])
def test_what_waits_of_an_accelerometer_that_became_idle_is_not_judged(
    silence_ms: int, count: int
) -> None:
    # A replay doesn't read it again, either.
    readings = walk(6)[0]
    begin, end = 424, 552
    in_time = delivered(
        sensor(readings[:begin], ACCELEROMETER),
        sensor(readings[:begin], GYROSCOPE),
        sensor(readings[begin:end], ACCELEROMETER, size=end - begin),
    )
    _, late = sensor(readings[begin:end], GYROSCOPE, size=end - begin)[0]
    now_ms = in_time[-1][0].stream_ms + silence_ms
    last = [replace(r, stream_ms=now_ms, offset=len(in_time)) for r in late]
    feed = Feed()
    assert len(feed.feed(flat(in_time))) == 5
    feed.feed(last)
    assert len(feed.found) == count


def test_a_split_device_is_idle_when_both_sensors_are() -> None:
    feed = Feed()
    feed.feed([Reading(0, EPOCH_US, stream_ms=1_000, sensors=ACCELEROMETER)])
    feed.feed([Reading(0, EPOCH_US, stream_ms=4_000, offset=1, sensors=GYROSCOPE)])
    slots = np.array([feed.slots[0]])
    assert feed.detector.find_idle(slots, 14_000).tolist() == []
    assert feed.detector.replay_point(slots, 14_000) == (1, 4_000)
    assert feed.detector.find_idle(slots, 14_001).tolist() == slots.tolist()
    assert feed.detector.replay_point(slots, 14_001) is None
    feed.detector.remove_devices(slots)
    feed.slots.clear()
    readings, truth = walk(4)
    both = delivered(sensor(readings, ACCELEROMETER), sensor(readings, GYROSCOPE))
    assert moments(feed.feed(flat(both))) == truth


def test_magnitudes_of_a_split_device_are_those_of_joined_samples() -> None:
    feed = Feed(hops_ahead=4)
    readings = [
        Reading(0, EPOCH_US + i * 12_500, (3.0, 4.0) + (0.0,) * 3 + (2.0,)) for i in range(20)
    ]
    slot = feed.slots[0] = feed.detector.add_device()
    feed.feed([replace(r, sensors=ACCELEROMETER, offset=1) for r in readings])
    assert feed.detector.magnitudes(slot, -1) is None
    feed.feed([replace(r, sensors=GYROSCOPE, offset=2) for r in readings[:10]])
    first, magnitudes = feed.detector.magnitudes(slot, -1) or (0, None)
    assert first == EPOCH_US // 12_500
    assert magnitudes == pytest.approx(np.array([[5.0, 2.0]] * 10))
    assert feed.detector.window(slot) == (EPOCH_US, readings[9].time_us, False)


def test_the_last_reading_of_joined_and_of_split_devices_is_known() -> None:
    feed = Feed()
    joined, _ = walk(2)
    split, _ = walk(3, device=1)
    feed.feed(joined)
    for message in delivered(sensor(split, ACCELEROMETER), sensor(split, GYROSCOPE, late_us=5_000)):
        feed.feed(message)
    slots = np.array([feed.slots[1], feed.slots[0], feed.detector.add_device()])
    newest = feed.detector.newest(slots)
    period_us = feed.detector.model.metadata.period_us
    assert newest.stream_ms[:2].tolist() == [
        split[-1].time_us // 1000,
        joined[-1].time_us // 1000,
    ]
    assert newest.place[:2].tolist() == [
        split[-1].time_us // period_us,
        joined[-1].time_us // period_us,
    ]
    assert newest.place[2] < 0
