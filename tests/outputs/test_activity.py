"""Minutes and walks are what the steps alone give, however they came."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.outputs import Activities, ActivityRules, CountedStep, Minute, Walk
from tests.outputs.oracle import MINUTE_US, WALK_GAP_US, Step, minutes_of, walks_of

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE_US = 30_000_000
RULES = ActivityRules(minutes=True, walks=True, walk_gap_us=10_000_000, grace_us=GRACE_US)
NOW_US = 28_333_333 * MINUTE_US + 17_000_000

Came = tuple[CountedStep, int]
"""A step, and stream time at the message that completed it."""


def step(offset: int, start_us: int, end_us: int, device: str = "phone") -> CountedStep:
    return CountedStep(
        "readings", 3, offset, 0, device.encode(), device, 1, start_us, end_us, 0.9, 0.9
    )


def walk(begin_us: int, count: int, every_us: int = 500_000, late_us: int = 400_000) -> list[Came]:
    """Steps of a regular walk, each completed ``late_us`` after its end."""
    ends = [begin_us + (n + 1) * every_us for n in range(count)]
    return [(step(end, end - every_us, end), (end + late_us) // 1000) for end in ends]


def follow(came: Sequence[Came]) -> Activities:
    made = Activities(RULES)
    for one, stream_ms in came:
        made.add(one, stream_ms)
    return made


def plain(groups: Sequence[Minute | Walk]) -> list[tuple[object, ...]]:
    """In the form of the oracle."""
    return [(f"{group.offset}-{group.number}", *group[3:-1]) for group in groups]


def oracle_steps(came: Sequence[Came]) -> list[Step]:
    return [Step(f"{one.offset}-{one.number}", one.start_us, one.end_us) for one, _ in came]


def test_a_minute_is_final_when_the_grace_period_is_over() -> None:
    came = walk(NOW_US, 10)
    made = follow(came)
    minute_end_ms = 28_333_334 * 60_000
    made.finish(minute_end_ms + 29_999)
    assert not any(isinstance(group, Minute) for group in made.take_final())
    assert made.finish(minute_end_ms + 30_000) == ["phone"]
    assert list(made.take_final()) == [
        Minute("phone", NOW_US + 500_000, 0, 28_333_333, 10, 5_000_000)
    ]
    assert made.finish(minute_end_ms + 90_000) == []


def test_a_walk_is_final_when_gap_and_grace_period_are_over() -> None:
    made = follow(walk(NOW_US, 10))
    end_us = NOW_US + 5_000_000
    made.finish(end_us // 1000 + 39_999)
    assert list(made.take_final()) == []
    made.finish(end_us // 1000 + 40_000)
    assert list(made.take_final()) == [
        Walk("phone", NOW_US + 500_000, 0, NOW_US, end_us, 10, 5_000_000)
    ]


def test_the_next_minute_and_the_next_walk_end_the_ones_before_at_once() -> None:
    made = follow([*walk(NOW_US, 10), *walk(NOW_US + 60_000_000, 1)])
    final = list(made.take_final())
    assert {type(group) for group in final} == {Minute, Walk}
    assert [group.steps for group in final] == [10, 10]


def test_pauses_are_no_walking_time() -> None:
    made = follow([*walk(NOW_US, 2), *walk(NOW_US + 6_000_000, 3), *walk(NOW_US + 60_000_000, 1)])
    assert Minute("phone", NOW_US + 500_000, 0, 28_333_333, 5, 2_500_000) in made.take_final()


def test_a_step_that_comes_for_a_final_minute_gives_a_larger_record() -> None:
    first, late = walk(NOW_US, 5), walk(NOW_US + 10_000_000, 5)
    made = follow(first)
    made.finish(NOW_US // 1000 + 120_000)
    for one, _ in late:
        made.add(one, NOW_US // 1000 + 120_000)
    made.finish(NOW_US // 1000 + 360_000)
    minutes = [group for group in made.take_final() if isinstance(group, Minute)]
    assert [(minute.minute, minute.steps) for minute in minutes] == [
        (28_333_333, 5),
        (28_333_333, 10),
    ]


def test_a_minute_that_a_device_lives_again_has_a_record_of_its_own() -> None:
    """Its clock was set back by eleven minutes: subscribers add the two."""
    hour = walk(NOW_US, 1500)
    back_us = 660_000_000
    begin_us = NOW_US + 750_000_000 - back_us
    again = [
        (one._replace(number=1), at_ms)
        for one, at_ms in walk(begin_us, 200, late_us=back_us + 1_000_000)
    ]
    made = follow([*hour, *again])
    made.finish((NOW_US + 900_000_000) // 1000)
    minutes = [group for group in made.take_final() if isinstance(group, Minute)]
    lived = [group for group in minutes if group.minute == 28_333_335]
    assert [group.steps for group in lived] == [120, 120]
    assert len({(group.offset, group.number) for group in lived}) == 2
    assert sum(group.steps for group in minutes) == 1700


def test_a_device_whose_clock_is_behind_gets_one_record_a_minute() -> None:
    day_us = 86_400_000_000
    came = walk(NOW_US, 300, late_us=day_us)
    made = Activities(RULES)
    for one, stream_ms in came:
        made.add(one, stream_ms)
        made.finish(stream_ms)
    made.finish((NOW_US + day_us) // 1000 + 300_000)
    assert plain([group for group in made.take_final() if isinstance(group, Minute)]) == minutes_of(
        oracle_steps(came)
    )


def test_at_the_end_of_a_range_what_was_over_is_final_and_the_rest_is_cut() -> None:
    came = walk(NOW_US, 40)
    last_us, minute_end_us = NOW_US + 20_000_000, 28_333_334 * MINUTE_US
    for end_us, kinds, left in (
        (last_us + 11_999_999, set(), (1, 1)),
        (last_us + 12_000_000, {Walk}, (1, 0)),
        (minute_end_us, {Minute, Walk}, (0, 0)),
    ):
        made = follow(came)
        assert made.finish_range(end_us) == ["phone"] * bool(kinds)
        assert {type(group) for group in made.take_final()} == kinds
        assert made.count_open() == left
        assert made.finish_range(end_us) == []


def test_a_device_that_is_late_is_as_late_at_the_end_of_a_range() -> None:
    late_us = 3_600_000_000
    made = follow(walk(NOW_US, 40, late_us=late_us))
    assert made.finish_range(28_333_334 * MINUTE_US + late_us - 1) == ["phone"]
    assert [type(group) for group in made.take_final()] == [Walk]
    assert made.finish_range(28_333_334 * MINUTE_US + late_us) == ["phone"]
    assert [type(group) for group in made.take_final()] == [Minute]


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    made = Activities(ActivityRules())
    made.add(step(1, 0, 500_000), 1_000)
    assert len(made) == 0
    assert made.finish(10_000_000) == []


@st.composite
def comings(draw: st.DrawFn) -> list[Came]:
    """Steps of one device with pauses and clocks set back, and how stream time went on."""
    pauses = st.sampled_from([0, 0, 0, 0, 1_400_000, 5_000_000, 9_500_000, 11_000_000, 70_000_000])
    count = draw(st.integers(1, 60))
    came, end_us, stream_ms = [], NOW_US, NOW_US // 1000
    for number in range(count):
        end_us += draw(pauses) + draw(st.integers(250_000, 900_000))
        if draw(st.integers(0, 30)) == 0:
            end_us -= draw(st.integers(601_000_000, 4_000_000_000))
        lag = draw(st.sampled_from([0, 0, 0, 20_000, 45_000, 200_000]))
        stream_ms = max(stream_ms, end_us // 1000 + 400 + lag)
        came.append((step(number, end_us - 600_000, end_us), stream_ms))
    return came


def kept_last(groups: Sequence[Minute | Walk]) -> list[tuple[object, ...]]:
    """Without records that a larger one of the same group follows."""
    shown = plain(groups)
    return [
        one
        for number, one in enumerate(shown)
        if not (number + 1 < len(shown) and shown[number + 1][0] == one[0] != ())
    ]


@given(comings(), st.data())
@settings(max_examples=300, deadline=None)
def test_groups_are_what_the_steps_give_in_every_batching(
    came: list[Came], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.booleans(), min_size=len(came), max_size=len(came)))
    quiet_ms = data.draw(
        st.lists(
            st.sampled_from([0, 0, 0, 35_000, 90_000, 400_000]),
            min_size=len(came),
            max_size=len(came),
        )
    )
    # Other devices move stream time between the steps.
    moved = list(accumulate(quiet_ms))
    came = [(one, at_ms + move) for (one, at_ms), move in zip(came, moved, strict=True)]
    results = []
    for with_cuts in (True, False):
        made = Activities(RULES)
        final: list[Minute | Walk] = []
        for (one, stream_ms), cut in zip(came, cuts, strict=True):
            if cut and with_cuts:
                made.finish(stream_ms)
                final += made.take_final()
                again = Activities(RULES)
                again.restore("phone", made.get("phone"))
                made = again
            made.add(one, stream_ms)
        made.finish(came[-1][1] + 5_000_000)
        final += made.take_final()
        results.append(final)
    cut_up, at_once = results
    for kind, expected in (
        (Minute, minutes_of(oracle_steps(came))),
        (Walk, walks_of(oracle_steps(came), WALK_GAP_US)),
    ):
        of_kind = [group for group in cut_up if isinstance(group, kind)]
        assert of_kind == [group for group in at_once if isinstance(group, kind)]
        assert kept_last(of_kind) == expected
