"""The real loop on a simulated Kafka, with crashes at every step; see `Schedule`."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from stepstream.streaming import starts
from tests.faults.consumer import MUTATIONS
from tests.simulated import kafka
from tests.simulated.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEDULES = int(os.environ.get("TEST_SCHEDULES", "40"))
MOST = 400
"""Schedules within which each mistake must be noticed."""


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_no_schedule_loses_or_repeats_anything(guarantee: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SCHEDULES if guarantee == "exactly_once" else SCHEDULES // 4):
        schedule = Schedule(seed, guarantee)
        schedule.run()
        assert not schedule.wrong, f"seed {seed}, {guarantee}: {schedule.wrong}"
        seen += schedule.injected
    assert seen["events"] > 5 * SCHEDULES // 4
    assert min(seen["minutes"], seen["walks"], seen["counts"]) > SCHEDULES // 8
    assert {"kill", "freeze", "stop", "add", "lost", "schemas"} <= seen.keys()


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_no_backfill_loses_or_repeats_anything_or_leaves_its_range(guarantee: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SCHEDULES // 2 if guarantee == "exactly_once" else SCHEDULES // 4):
        schedule = Schedule(seed, guarantee, is_backfill=True)
        schedule.run()
        assert not schedule.wrong, f"seed {seed}, {guarantee}: {schedule.wrong}"
        seen += schedule.injected
    assert seen["events"] > SCHEDULES // 4
    assert {"kill", "freeze", "stop", "add"} <= seen.keys()


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_no_rebalance_or_crash_lets_a_held_partition_go_on(guarantee: str) -> None:
    seen: Counter[str] = Counter()
    for seed in range(SCHEDULES // 10):
        schedule = Schedule(seed, guarantee, holds=True)
        schedule.run()
        assert not schedule.wrong, f"seed {seed}, {guarantee}: {schedule.wrong}"
        seen += schedule.injected
    assert seen["released"] > SCHEDULES // 10
    assert {"kill", "freeze", "stop", "add"} <= seen.keys()


def test_a_schedule_repeats_itself() -> None:
    first, again = Schedule(7), Schedule(7)
    first.run()
    again.run()
    assert first.injected == again.injected
    assert first.world.steps == again.world.steps
    assert first.broker.written.keys() == again.broker.written.keys()


@pytest.fixture
def _mended() -> Iterator[None]:
    yield
    patch.stopall()


def _in_no_group(self: Any) -> tuple[str, int]:
    return (self.memberid(), -1)


def _drop_the_generation() -> None:
    patch.object(kafka.Consumer, "consumer_group_metadata", _in_no_group).start()


def _keep_what_another_had() -> None:
    MUTATIONS["keep-what-another-had"]()
    patch.object(kafka, "REPLACED", 1.0).start()


MISTAKES = {
    **MUTATIONS,
    "drop-the-generation": _drop_the_generation,
    "keep-what-another-had": _keep_what_another_had,
}
FIRST_SEEDS = {
    "keep-what-another-had": 325,
    "offsets-first": 12,
    "drop-what-was-aborted": 6,
    "drop-the-generation": 53,
    "end-ledgers-by-event-only": 3,
    "forget-what-is-final": 83,
}
"""Where to begin if most schedules don't notice a mistake; it only spares time."""


@pytest.mark.slow
@pytest.mark.usefixtures("_mended")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_noticed(mistake: str) -> None:
    MISTAKES[mistake]()
    first = FIRST_SEEDS.get(mistake, 0)
    for seed in range(first, first + MOST):
        schedule = Schedule(seed)
        schedule.run()
        if schedule.wrong:
            return
    pytest.fail(f"{mistake} was not noticed in {MOST} schedules")


@pytest.mark.slow
@pytest.mark.usefixtures("_mended")
def test_a_hold_that_is_forgotten_is_noticed() -> None:
    patch.object(starts, "_holds", lambda _: False).start()
    for seed in range(MOST // 10):
        schedule = Schedule(seed, holds=True)
        schedule.run()
        if schedule.wrong:
            return
    pytest.fail("no schedule noticed it")
