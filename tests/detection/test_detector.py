from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from stepstream.detection import Rules
from tests.detection import oracle
from tests.detection.builders import EPOCH_US, Feed, Reading, TransparentModel, by_device, walk
from tests.detection.streams import Stream, streams

CUTS = st.lists(st.integers(0, 2000), max_size=30)


def test_steps_are_found_where_they_were_made() -> None:
    readings, truth = walk(10)
    found = Feed().feed(readings)
    assert [(start, end) for _, start, end, *_ in found] == truth


def test_a_weak_end_counts_while_somebody_walks_and_not_alone() -> None:
    readings, truth = walk(6)

    def weakened(ends: set[int]) -> list[int]:
        near = [truth[step][1] for step in ends]
        weak = [
            replace(r, axes=(r.axes[0], 0.45 * r.axes[1], *r.axes[2:]))
            if any(abs(r.time_us - end) < 200_000 for end in near)
            else r
            for r in readings
        ]
        return [step[2] for step in Feed().feed(weak)]

    ends = [end for _, end in truth]
    assert weakened({2, 3}) == ends
    assert weakened({0, 1}) == ends[2:]
    assert weakened({2, 3, 4, 5}) == ends[:4]


def test_a_broad_peak_stands_at_its_centre() -> None:
    readings, truth = walk(4)
    # Ends are flat on top but for one sample, 25 ms from the middle.
    moved = [
        replace(r, axes=(r.axes[0], min(r.axes[1], 6.0) + 0.5 * odd, *r.axes[2:]))
        for r in readings
        for odd in [any(r.time_us == end + 25_000 for _, end in truth)]
    ]
    found = [step[2] for step in Feed().feed(moved)]
    assert len(found) == len(truth)
    assert all(abs(f - end) <= 12_500 for f, (_, end) in zip(found, truth, strict=True))


def test_a_step_is_known_half_a_second_after_its_end() -> None:
    readings, truth = walk(10)
    time_us = {reading.offset: reading.time_us for reading in readings}
    delays_s = [
        (time_us[step[5]] - end) / 1e6
        for step, (_, end) in zip(Feed().feed(readings), truth, strict=True)
    ]
    assert max(delays_s) <= 0.5


@given(stream=streams(in_step=False), cuts=CUTS, hops_ahead=st.sampled_from([1, 2, 7, 256]))
def test_any_cut_of_any_interleaving_gives_what_each_device_alone_gives(
    stream: Stream, cuts: list[int], hops_ahead: int
) -> None:
    readings = stream.readings
    rules = Rules()
    found = by_device(Feed(rules, hops_ahead).feed_in_pieces(readings, cuts))
    for device in {reading.device for reading in readings}:
        alone = [reading for reading in readings if reading.device == device]
        expected = oracle.detect(alone, TransparentModel(), rules)
        event(f"{min(len(expected), 3)} steps or more")
        assert found.get(device, []) == expected


@given(stream=streams(in_step=True), seal=st.floats(0, 1), earlier=st.integers(0, 60), cuts=CUTS)
def test_a_suffix_from_the_history_offset_or_before_gives_the_same_later_steps(
    stream: Stream, seal: float, earlier: int, cuts: list[int]
) -> None:
    readings = stream.readings
    offsets = sorted({reading.offset for reading in readings})
    sealed = offsets[int(seal * (len(offsets) - 1))]
    whole = Feed()
    whole.feed([reading for reading in readings if reading.offset <= sealed])
    history = whole.history_offset()
    later = whole.feed([reading for reading in readings if reading.offset > sealed])

    suffix = [reading for reading in readings if reading.offset >= history - earlier]
    replayed = Feed().feed_in_pieces(suffix, cuts)
    event(f"{min(len(later), 3)} later steps or more")
    assert by_device(step for step in replayed if step[5] > sealed) == by_device(later)


def test_the_history_reaches_back_no_further_than_the_horizon() -> None:
    readings, _ = walk(20)
    feed = Feed()
    for reading in readings:
        feed.feed([reading])
        age_us = reading.time_us - readings[feed.history_offset()].time_us
        assert age_us <= feed.detector.horizon_us
    assert feed.detector.horizon_us == 3_200_000


def test_history_starts_with_the_first_reading_of_a_young_window() -> None:
    feed = Feed()
    feed.feed([Reading(0, EPOCH_US + i * 12_500, offset=40 + i) for i in range(50)])
    assert feed.history_offset() == 40


@pytest.mark.parametrize("rate_hz", [20.0, 50.0, 80.0, 100.0, 405.0, 500.0])
def test_any_rate_from_20_to_500_hz_gives_the_same_steps(rate_hz: float) -> None:
    readings, truth = walk(8, rate_hz=rate_hz)
    found = Feed().feed(readings)
    assert len(found) == len(truth)
    for (_, start, end, *_), (true_start, true_end) in zip(found, truth, strict=True):
        assert abs(start - true_start) <= 25_000
        assert abs(end - true_end) <= 25_000


def test_nothing_is_invented_across_a_gap() -> None:
    readings, truth = walk(10)
    hole = (truth[4][1] - 200_000, truth[4][1] + 200_000)
    kept = [r for r in readings if not hole[0] < r.time_us < hole[1]]
    feed = Feed()
    ends = [step[2] for step in feed.feed(kept)]
    # Ends less than 0.5 s before the hole aren't settled; after it a hop begins at once.
    assert ends == [end for start, end in truth if end < hole[0] - 500_000 or start >= hole[1]]
    assert feed.detector.windows.opened == 2


def test_a_gap_within_the_limit_is_interpolated() -> None:
    readings, truth = walk(6)
    quiet = (truth[2][1] + 60_000, truth[2][1] + 190_000)
    kept = [r for r in readings if not quiet[0] < r.time_us < quiet[1]]
    feed = Feed()
    assert len(feed.feed(kept)) == len(truth)
    assert feed.detector.windows.opened == 1


@given(data=st.data())
def test_readings_delivered_again_or_late_change_nothing(data: st.DataObject) -> None:
    readings, _ = walk(6)
    noisy = list(readings)
    for _ in range(data.draw(st.integers(1, 8))):
        begin = data.draw(st.integers(1, len(readings) - 1))
        size = data.draw(st.integers(1, 200))
        again = [r for r in readings if r.offset in range(begin - size, begin)]
        at = next(i for i, r in enumerate(noisy) if r is readings[begin])
        now_ms = readings[begin].stream_ms
        noisy[at:at] = [Reading(0, r.time_us, r.axes, r.offset, now_ms) for r in again]
    feed = Feed()
    assert feed.feed(noisy) == Feed().feed(readings)
    assert feed.detector.windows.late_readings == len(noisy) - len(readings)


def test_a_clock_set_back_starts_a_new_window() -> None:
    first, truth = walk(6)
    second, again = walk(6, begin_us=EPOCH_US - 3_600_000_000)
    shift = len(first)
    last_ms = first[-1].stream_ms
    second = [
        Reading(0, r.time_us, r.axes, r.offset + shift, last_ms + r.offset * 12) for r in second
    ]
    found = Feed().feed(first + second)
    assert [step[2] for step in found] == [end for _, end in truth + again]


def test_a_device_idle_in_stream_time_starts_a_new_window() -> None:
    readings, truth = walk(8)
    cut = next(i for i, r in enumerate(readings) if r.time_us > truth[3][1] + 50_000)
    late = [Reading(0, r.time_us, r.axes, r.offset, r.stream_ms + 10_500) for r in readings[cut:]]
    feed = Feed()
    assert len(feed.feed(readings[:cut] + late)) < len(truth)
    assert feed.detector.windows.opened == 2


def test_a_slot_that_was_given_back_is_used_again_from_scratch() -> None:
    readings, truth = walk(5)
    feed = Feed()
    feed.feed(readings[:300])
    slot = feed.slots.pop(0)
    feed.detector.remove_devices(np.array([slot]))
    assert feed.detector.device_count == 0
    found = feed.feed([Reading(1, r.time_us, r.axes, r.offset, r.stream_ms) for r in readings])
    assert feed.slots == {1: slot}
    assert [step[2] for step in found] == [end for _, end in truth]


def test_many_devices_grow_the_storage_and_keep_their_windows() -> None:
    readings, truth = walk(4)
    feed = Feed()
    feed.feed(readings[:200])
    crowd = [Reading(d, readings[200].time_us) for d in range(1, 1000)]
    feed.feed(crowd)
    found = feed.feed(readings[200:])
    assert [step[2] for step in found] == [end for _, end in truth]
