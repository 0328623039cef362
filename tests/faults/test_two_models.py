"""What is said of events that two models found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.faults.two_models import TwoModels

if TYPE_CHECKING:
    from tests.kafka.played import Step

STEP_US = 550_000


def steps(model: str, late_us: int = 0) -> list[Step]:
    """Twenty steps of a device."""
    ends = [late_us + n * STEP_US for n in range(1, 21)]
    return [(n, end - 700_000, end, 0.9, 0.8, model) for n, end in enumerate(ends, start=1)]


def counted(*found: Step) -> list[Step]:
    return [(n, *step[1:]) for n, step in enumerate(found, start=1)]


OLD, NEW = steps("old"), steps("new", 25_000)
LATER = (0, 1, NEW[8][2] + 40_000, 0.9, 0.8, "new")
"""A higher peak, soon after an end that counts."""


def faults(*found: Step) -> tuple[list[str], TwoModels]:
    models = TwoModels([{"a": OLD}, {"a": NEW}], [{"a": OLD}, {"a": [*NEW, LATER]}])
    return models.faults("a", counted(*found)), models


def test_a_change_of_the_model_may_miss_a_step_and_no_more() -> None:
    nothing, models = faults(*OLD[:8], *NEW[9:])
    assert (nothing, models.switches, models.missing) == ([], 1, 1)
    (wrong,), _ = faults(*OLD[:8], *NEW[11:])
    assert "3 steps of both are missing, with 1 changes" in wrong


def test_what_another_step_precedes_counts_if_the_other_model_did_not_count_that() -> None:
    nothing, models = faults(*OLD[:8], LATER, *NEW[9:])
    assert (nothing, models.missing) == ([], 0)
    (wrong,), _ = faults(*OLD[:8], *NEW[8:9], LATER, *NEW[9:])
    assert "two steps end within the refractory time" in wrong


def test_a_step_is_not_counted_by_both_models() -> None:
    (wrong,), _ = faults(*OLD[:8], *NEW[7:])
    assert "two steps end within the refractory time" in wrong


def test_a_step_that_no_model_finds_and_a_wrong_count_are_faults() -> None:
    (wrong,), _ = faults(*OLD[:8], (0, 1, 8 * STEP_US + 275_000, 0.9, 0.8, "new"), *NEW[9:])
    assert "no model finds" in wrong
    models = TwoModels([{"a": OLD}, {"a": NEW}], [{"a": OLD}, {"a": [*NEW, LATER]}])
    (wrong,) = models.faults("a", [*OLD[:9], (9, *OLD[9][1:]), *OLD[10:]])
    assert "counts are" in wrong
