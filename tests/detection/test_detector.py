from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from stepstream.detection import Columns, Counters, Detector, Rules, make_step_detector
from tests.detection import oracle
from tests.detection.builders import (
    EPOCH_US,
    METADATA,
    PERIOD_US,
    SUPPORTED,
    Feed,
    Reading,
    TransparentModel,
    by_device,
    columns,
    walk,
)
from tests.detection.streams import Stream, message_span_ms, streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection import ModelMetadata
    from stepstream.detection.model import Hops

METADATAS = st.sampled_from([METADATA, SUPPORTED])
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
    assert weakened({0}) == ends
    assert weakened({0, 1}) == ends[1:]
    assert weakened({2, 3, 4, 5}) == ends[:4]


def test_a_weak_end_counts_with_the_support_of_those_before_it() -> None:
    readings, truth = walk(6)

    def found(*heights: float) -> list[int]:
        scaled = [
            replace(r, axes=(r.axes[0], height / 0.9 * r.axes[1], *r.axes[2:]))
            for r in readings
            for height in [
                next((h for (_, e), h in zip(truth, heights, strict=True)
                      if abs(r.time_us - e) < 200_000), 0.9)
            ]
        ]  # fmt: skip
        feed = Feed(model=TransparentModel(SUPPORTED))
        ends = [end for _, end in truth]
        return [ends.index(step[2]) for step in feed.feed(scaled)]

    # The sum that is asked for is 0.8: alone, by 0.5 of the last and 0.25 of the one before.
    assert found(0.9, 0.1, 0.1, 0.1, 0.1, 0.1) == [0]
    assert found(0.7, 0.1, 0.1, 0.1, 0.1, 0.1) == []
    assert found(0.5, 0.5, 0.1, 0.1, 0.1, 0.1) == []
    # The ones before waited.
    assert found(0.5, 0.5, 0.5, 0.1, 0.1, 0.1) == [0, 1, 2]
    assert found(0.9, 0.4, 0.1, 0.1, 0.1, 0.1) == [0, 1]
    assert found(0.9, 0.9, 0.35, 0.1, 0.9, 0.35) == [0, 1, 2, 4, 5]
    assert found(0.9, 0.9, 0.25, 0.9, 0.9, 0.9) == [0, 1, 3, 4, 5]


def test_what_the_ends_before_say_is_known_after_five_seconds_at_most() -> None:
    feed = Feed(model=TransparentModel(SUPPORTED))
    feed.feed(walk(1)[0])
    assert feed.detector.horizon_us == 5_000_000


def without_starts(readings: list[Reading], *starts: int) -> list[Reading]:
    return [
        replace(r, axes=(0.2, *r.axes[1:]))
        if any(abs(r.time_us - start) < 200_000 for start in starts)
        else r
        for r in readings
    ]


def test_a_step_without_a_clear_start_counts_with_the_next_one() -> None:
    readings, truth = walk(6)
    time_us = {reading.offset: reading.time_us for reading in readings}
    ends = [end for _, end in truth]
    found = Feed().feed(without_starts(readings, truth[0][0], truth[3][0]))
    assert [step[2] for step in found] == ends
    completed = [step[5] for step in found]
    assert completed[0] == completed[1] < completed[2] < completed[3] == completed[4]
    assert time_us[completed[0]] - ends[1] <= 500_000
    assert found[0][3] < 0.1
    assert found[1][3] > 0.5


def test_a_step_without_a_clear_start_and_without_a_next_one_does_not_count() -> None:
    readings, truth = walk(1)
    assert len(Feed().feed(readings)) == 1
    assert Feed().feed(without_starts(readings, truth[0][0])) == []


def test_no_end_waits_for_another_if_the_model_does_not_say_so() -> None:
    readings, truth = walk(6)
    model = TransparentModel(msgspec.structs.replace(METADATA, waiting=0))
    feed = Feed(model=model)
    found = feed.feed(without_starts(readings, truth[0][0], truth[3][0]))
    assert [step[2] for step in found] == [truth[n][1] for n in (1, 2, 4, 5)]
    assert feed.detector.horizon_us == 3_200_000


def test_a_higher_peak_soon_after_replaces_one_that_waits() -> None:
    readings, truth = walk(2)
    (start, end), (_, last) = truth
    twice = [
        replace(r, axes=(r.axes[0], 3.5, *r.axes[2:])) if r.time_us == end - 187_500 else r
        for r in without_starts(readings, start)
    ]
    assert [step[2] for step in Feed().feed(twice)][1:] == [last]
    assert len(Feed().feed(twice)) == 2


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


@given(
    stream=streams(in_step=False),
    cuts=CUTS,
    hops_ahead=st.sampled_from([1, 2, 7, 256]),
    metadata=METADATAS,
)
def test_any_cut_of_any_interleaving_gives_what_each_device_alone_gives(
    stream: Stream, cuts: list[int], hops_ahead: int, metadata: ModelMetadata
) -> None:
    readings = stream.readings
    rules, model = Rules(), TransparentModel(metadata)
    feed = Feed(rules, hops_ahead, model)
    found = by_device(feed.feed_in_pieces(readings, cuts))
    for device in {reading.device for reading in readings}:
        alone = [reading for reading in readings if reading.device == device]
        expected = oracle.detect(alone, model, rules)
        event(f"{min(len(expected), 3)} steps or more")
        assert found.get(device, []) == expected
    event(f"{min(feed.detector.counters.bridged_gaps, 2)} bridged gaps or more")


@given(
    stream=streams(in_step=True),
    share=st.floats(0, 1),
    earlier=st.integers(0, 60),
    cuts=CUTS,
    metadata=METADATAS,
)
def test_a_suffix_from_the_replay_offset_or_before_gives_the_same_later_steps(
    stream: Stream, share: float, earlier: int, cuts: list[int], metadata: ModelMetadata
) -> None:
    readings = stream.readings
    offsets = sorted({reading.offset for reading in readings})
    committed = offsets[int(share * (len(offsets) - 1))]
    whole = Feed(model=TransparentModel(metadata))
    whole.feed([reading for reading in readings if reading.offset <= committed])
    replay = whole.replay_offset()
    later = whole.feed([reading for reading in readings if reading.offset > committed])

    suffix = [reading for reading in readings if reading.offset >= replay - earlier]
    replayed = Feed(model=TransparentModel(metadata)).feed_in_pieces(suffix, cuts)
    event(f"{min(len(later), 3)} later steps or more")
    event(f"{min(whole.detector.counters.bridged_gaps, 2)} bridged gaps or more")
    assert by_device(step for step in replayed if step[5] > committed) == by_device(later)


def test_a_replay_reaches_back_no_further_than_the_horizon() -> None:
    readings, _ = walk(20)
    feed = Feed()
    for reading in readings:
        feed.feed([reading])
        age_us = reading.time_us - readings[feed.replay_offset()].time_us
        assert age_us <= feed.detector.horizon_us
    assert feed.detector.horizon_us == 4_200_000


def test_a_replay_starts_with_the_first_reading_of_a_young_window() -> None:
    feed = Feed()
    feed.feed([Reading(0, EPOCH_US + i * 12_500, offset=40 + i) for i in range(50)])
    assert feed.replay_offset() == 40


@pytest.mark.parametrize("rate_hz", [20.0, 50.0, 80.0, 100.0, 405.0, 500.0])
def test_any_rate_from_20_to_500_hz_gives_the_same_steps(rate_hz: float) -> None:
    readings, truth = walk(8, rate_hz=rate_hz)
    found = Feed().feed(readings)
    assert len(found) == len(truth)
    for (_, start, end, *_), (true_start, true_end) in zip(found, truth, strict=True):
        assert abs(start - true_start) <= 25_000
        assert abs(end - true_end) <= 25_000


def without(readings: list[Reading], *holes: tuple[int, int]) -> list[Reading]:
    """The readings that lie in none of the holes."""
    return [r for r in readings if not any(begin < r.time_us < end for begin, end in holes)]


def test_nothing_is_invented_in_a_gap_that_is_too_long() -> None:
    readings, truth = walk(10)
    hole = (truth[4][1] - 200_000, truth[4][1] + 200_000)
    feed = Feed(Rules(max_gap_us=399_999))
    ends = [step[2] for step in feed.feed(without(readings, hole))]
    # Ends less than 0.5 s before the hole aren't settled; after it a hop begins at once.
    assert ends == [end for start, end in truth if end < hole[0] - 500_000 or start >= hole[1]]
    assert feed.detector.counters == Counters(windows_opened=2, gaps=1)


@pytest.mark.parametrize("length_us", [275_000, 550_000, 1_200_000])
def test_a_walk_goes_on_in_a_short_gap(length_us: int) -> None:
    readings, truth = walk(10)
    hole = (truth[5][1] - 100_000, truth[5][1] - 100_000 + length_us)
    feed = Feed()
    ends = [step[2] for step in feed.feed(without(readings, hole))]
    assert ends == [end for _, end in truth]
    assert feed.detector.counters == Counters(windows_opened=1, bridged_gaps=1)


def test_a_device_that_stands_still_before_a_gap_stands_still_in_it() -> None:
    readings, truth = walk(4)
    hole = (truth[3][1] + 1_000_000, truth[3][1] + 2_000_000)
    later = [replace(r, time_us=r.time_us + 500_000) for r in readings if r.time_us > hole[0]]
    still = [r for r in readings if r.time_us <= hole[0]] + later
    feed = Feed()
    assert len(feed.feed(still)) == len(truth)
    assert feed.detector.counters.bridged_gaps == 1


@pytest.mark.parametrize(("rhythm_hz", "goes_on"), [(0.4, False), (2.0, True)])
def test_only_a_movement_as_quick_as_walking_goes_on_in_a_gap(
    rhythm_hz: float, *, goes_on: bool
) -> None:
    times_s = np.arange(0, 3.75, 1 / 80)
    accel = 10 + 3 * np.sin(2 * np.pi * rhythm_hz * times_s)
    begin, end = 240, 280
    feed = Feed()
    feed.feed(
        [
            Reading(0, EPOCH_US + i * PERIOD_US, (value, 0, 0, 0, 0, 0), i)
            for i, value in enumerate(accel.tolist())
            if not begin < i < end
        ]
    )
    assert feed.detector.counters == Counters(windows_opened=1, bridged_gaps=1)
    newest = feed.detector.magnitudes(feed.slots[0], -1)
    assert newest is not None
    first, seen = newest
    within = np.arange(begin + 1, end)
    shown = seen[EPOCH_US // PERIOD_US + within - first, 0]
    line = np.interp(within, [begin, end], accel[[begin, end]])
    assert shown == pytest.approx(accel[within] if goes_on else line, abs=0.05)


def test_what_was_repeated_in_a_gap_is_not_repeated_in_the_next_one() -> None:
    readings, truth = walk(12)
    begin = truth[5][1] - 100_000

    def counters(whole_us: int) -> Counters:
        holes = [(begin, begin + 400_000), (begin + 400_000 + whole_us, begin + 800_000 + whole_us)]
        feed = Feed()
        feed.feed(without(readings, *holes))
        return feed.detector.counters

    assert counters(1_400_000) == Counters(windows_opened=2, gaps=1, bridged_gaps=1)
    assert counters(1_700_000) == Counters(windows_opened=1, bridged_gaps=2)


def test_a_gap_within_the_limit_is_interpolated() -> None:
    readings, truth = walk(6)
    quiet = (truth[2][1] + 60_000, truth[2][1] + 190_000)
    kept = [r for r in readings if not quiet[0] < r.time_us < quiet[1]]
    feed = Feed()
    assert len(feed.feed(kept)) == len(truth)
    assert feed.detector.counters.windows_opened == 1


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
    assert feed.detector.counters.late_readings == len(noisy) - len(readings)


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
    assert feed.detector.counters.windows_opened == 2


@pytest.mark.parametrize("upload_s", [12, 15, 20])
def test_a_device_that_uploads_batches_is_waited_for_as_long_as_one_lasts(upload_s: int) -> None:
    readings, truth = walk(120)
    begin_us, length_us = readings[0].time_us, upload_s * 1_000_000
    number = np.array([(r.time_us - begin_us) // length_us for r in readings])
    spans_ms = Rules.spans_ms(number, np.array([r.time_us for r in readings]))
    uploads = [
        replace(r, offset=n, stream_ms=(begin_us + (n + 1) * length_us) // 1000, span_ms=span_ms)
        for r, n, span_ms in zip(readings, number.tolist(), spans_ms.tolist(), strict=True)
    ]
    feed = Feed()
    assert [step[2] for step in feed.feed(uploads)] == [end for _, end in truth]
    assert feed.detector.counters == Counters(windows_opened=1)

    impatient = Feed()
    impatient.feed([replace(r, span_ms=0) for r in uploads])
    assert impatient.detector.counters.windows_opened == number[-1] + 1


def test_a_short_message_after_a_long_one_continues_its_window() -> None:
    readings, truth = walk(100)
    begin_us, uploads = readings[0].time_us, []
    for offset, (first_s, last_s, arrival_s) in enumerate(
        [(0, 26, 26), (26, 31, 57), (31, 60, 66)]
    ):
        message = [
            replace(r, offset=offset, stream_ms=begin_us // 1000 + arrival_s * 1000)
            for r in readings
            if first_s * 1_000_000 <= r.time_us - begin_us < last_s * 1_000_000
        ]
        uploads += [replace(r, span_ms=message_span_ms(message)) for r in message]
    feed = Feed()
    assert [step[2] for step in feed.feed(uploads)] == [end for _, end in truth]
    assert feed.detector.counters == Counters(windows_opened=1)


@pytest.mark.parametrize("sensors", [0, 3])
def test_a_replay_knows_what_was_late_of_a_device_that_is_idle(sensors: int) -> None:
    readings, truth = walk(8)
    readings = [replace(r, sensors=sensors) for r in readings]
    cut = next(i for i, r in enumerate(readings) if r.time_us > truth[4][1] + 50_000)
    last_ms = readings[cut - 1].stream_ms
    late = [replace(r, stream_ms=last_ms + 6_000) for r in readings[cut - 60 : cut]]
    late = [replace(r, offset=cut) for r in late]
    later = [
        replace(r, offset=r.offset + 1, stream_ms=last_ms + 12_000 + r.offset - cut)
        for r in readings[cut:]
    ]
    whole = Feed()
    whole.feed(readings[:cut] + late)
    slots = np.array([whole.slots[0]])
    # It is idle, and its next reading opens a window: not so for who begins with the late ones.
    assert Feed().feed(late + later) != Feed().feed(later)
    assert whole.detector.find_idle(slots, last_ms + 16_000).tolist() == []
    assert whole.detector.replay_point(slots, last_ms + 11_000) == (cut - 1, last_ms)
    found = whole.feed(later)
    for begin in (0, cut // 2, cut - 1):
        replayed = Feed().feed([r for r in readings[:cut] if r.offset >= begin] + late + later)
        assert [step for step in replayed if step[5] > cut] == found

    # Nobody is waited for longer than the late readings allow.
    forgotten = Feed()
    forgotten.feed(readings[:cut] + late)
    assert forgotten.detector.replay_point(slots, last_ms + 16_001) is None
    assert forgotten.detector.find_idle(slots, last_ms + 16_001).tolist() == slots.tolist()


def test_a_message_spans_a_minute_at_most() -> None:
    message = np.array([0, 0, 1, 2, 2, 2])
    time_us = np.array([5_000_000, 7_500_000, 0, 0, 90_000_000, 1])
    assert Rules.spans_ms(message, time_us).tolist() == [2_500, 2_500, 0, 60_000, 60_000, 60_000]
    assert Rules.spans_ms(np.arange(3), np.arange(3)).tolist() == [0, 0, 0]


def test_a_slot_that_was_given_back_is_used_again_from_scratch() -> None:
    readings, truth = walk(5)
    feed = Feed()
    feed.feed(readings[:300])
    slot = feed.slots.pop(0)
    feed.detector.remove_devices(np.array([slot]))
    assert feed.detector.device_count == 0
    assert feed.detector.window(slot) is None
    found = feed.feed([Reading(1, r.time_us, r.axes, r.offset, r.stream_ms) for r in readings])
    assert feed.slots == {1: slot}
    assert [step[2] for step in found] == [end for _, end in truth]
    assert feed.detector.counters.windows_opened == 2
    assert feed.detector.counters.gaps == 0


def test_many_devices_grow_the_storage_and_keep_their_windows() -> None:
    readings, truth = walk(4)
    feed = Feed()
    feed.feed(readings[:200])
    crowd = [Reading(d, readings[200].time_us) for d in range(1, 1000)]
    feed.feed(crowd)
    found = feed.feed(readings[200:])
    assert [step[2] for step in found] == [end for _, end in truth]


def test_devices_without_a_window_and_those_that_sent_nothing_for_long_are_idle() -> None:
    feed = Feed()
    feed.feed([Reading(0, EPOCH_US, stream_ms=1_000), Reading(1, EPOCH_US, stream_ms=4_000)])
    unused = feed.detector.add_device()
    slots = np.array([feed.slots[0], feed.slots[1], unused])
    assert feed.detector.find_idle(slots, 11_000).tolist() == [unused]
    assert feed.detector.find_idle(slots, 11_001).tolist() == [feed.slots[0], unused]
    assert feed.detector.replay_point(slots, 14_001) is None


def test_a_window_is_full_when_the_network_sees_nothing_before_it() -> None:
    feed = Feed()
    readings = [Reading(0, EPOCH_US + 1 + i * 12_500) for i in range(129)]
    feed.feed(readings[:128])
    # Samples lie on the grid, the first one after the first reading.
    began_us = EPOCH_US + 12_500
    last_us = readings[127].time_us
    assert feed.detector.window(feed.slots[0]) == (began_us, last_us, False)
    feed.feed(readings[128:])
    assert feed.detector.window(feed.slots[0]) == (began_us, last_us + 12_500, True)


def test_magnitudes_are_those_of_the_samples_after_the_one_that_is_known() -> None:
    feed = Feed(hops_ahead=4)
    slot = feed.slots[0] = feed.detector.add_device()
    assert feed.detector.magnitudes(slot, -1) is None
    first = EPOCH_US // 12_500
    readings = [
        Reading(0, EPOCH_US + i * 12_500, (3.0, 4.0 + i, 0.0, 0.0, 0.0, -i / 10))
        for i in range(200)
    ]

    def expected(begin: int, end: int) -> object:
        return pytest.approx(np.array([[np.hypot(3, 4 + i), i / 10] for i in range(begin, end)]))

    feed.feed(readings[:10])
    known, magnitudes = feed.detector.magnitudes(slot, -1) or (0, None)
    assert (known, magnitudes) == (first, expected(0, 10))
    assert feed.detector.magnitudes(slot, first + 9) is None
    feed.feed(readings[10:12])
    assert feed.detector.magnitudes(slot, first + 9) == (first + 10, expected(10, 12))
    feed.feed(readings[12:])
    # The ring has 16 hops of 8 samples; the newest hop isn't complete.
    known, magnitudes = feed.detector.magnitudes(slot, first + 11) or (0, None)
    assert known % 8 == 0
    assert 120 < first + 200 - known <= 128
    assert magnitudes == expected(known - first, 200)


def test_the_network_is_run_by_the_function_that_is_given() -> None:
    model, sizes = TransparentModel(), []

    def predict(hops: Hops) -> NDArray[np.float32]:
        sizes.append(hops.rows.size)
        return model.predict(hops)

    readings, _ = walk(4)
    detector = make_step_detector(model, predict=predict)
    slot = detector.add_device()
    assert len(detector.feed(columns(readings, {0: slot}))) == 4
    assert sum(sizes) == len(readings) // 8


class HighestEnds:
    """Finds the highest end probability of each hop: another finder than that of steps."""

    hops_ahead, lookback_hops = 4, 0

    def resize(self, capacity: int) -> None:
        pass

    def none(self) -> HighestEnd:
        return HighestEnd(
            np.empty(0, np.intp),
            np.empty(0, np.int64),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
        )

    def find(
        self,
        slot: NDArray[np.intp],
        hop: NDArray[np.int64],
        first_hop: NDArray[np.int64],
        probabilities: NDArray[np.float32],
        offset: NDArray[np.int64],
    ) -> HighestEnd:
        return HighestEnd(slot, hop - first_hop, probabilities[:, :, 1].max(axis=1), offset)


@dataclass(frozen=True, slots=True)
class HighestEnd(Columns):
    number: NDArray[np.int64]
    probability: NDArray[np.float32]
    offset: NDArray[np.int64]


def test_a_detector_gives_what_its_finder_finds() -> None:
    readings, _ = walk(4)
    detector = Detector(TransparentModel(), HighestEnds())
    slots = {device: detector.add_device() for device in range(2)}
    both = [replace(r, device=device) for r in readings for device in slots]
    found = detector.feed(columns(both, slots))
    # The network gives the probabilities of the samples 24 back.
    hops = len(readings) // 8 - 3
    assert found.slot.tolist() == [slots[0]] * hops + [slots[1]] * hops
    assert found.number.tolist() == [*range(hops), *range(hops)]
    assert found.offset.tolist() == [31 + 8 * n for n in range(hops)] * 2
    assert found.probability.max() == pytest.approx(0.9, abs=0.01)
