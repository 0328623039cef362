"""The short form of ``make availability``, and how its options are read."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.availability import parse_options, run_quick
from benchmarks.faults import FAULTS, REPLACED_S, SETTLED_S, Stage, schedule
from benchmarks.variants import VARIANTS, parse_variant
from tests.conftest import ROOT, missing
from tests.kafka.broker import missing_tool

if TYPE_CHECKING:
    from collections.abc import Callable

GENEROUS_S = 25.0
"""A crash costs the session timeout of 6 s; beside other work everything takes longer."""


@pytest.mark.kafka
def test_a_crash_and_a_leave_lose_nothing_and_hold_up_events_for_seconds(tmp_path: Path) -> None:
    tool = missing_tool()
    if tool:
        missing(f"{tool}, to run an Apache Kafka broker of its own")
    outcome = run_quick(tmp_path / "quick")
    assert not outcome.wrong, "\n".join([*outcome.log, *outcome.wrong])
    assert not outcome.exits
    longest_s = {fault.kind: fault.longest_s for fault in outcome.faults}
    assert longest_s.keys() == {"crash", "leave-join"}
    # Less would mean that the crash wasn't noticed by what measures it.
    assert 1.0 < longest_s["crash"] < GENEROUS_S
    assert 0.0 < longest_s["leave-join"] < GENEROUS_S


def test_a_seed_decides_on_the_schedule() -> None:
    assert schedule(1, FAULTS) == schedule(1, FAULTS)
    assert schedule(1, FAULTS) != schedule(2, FAULTS)
    assert sorted(fault.kind for fault in schedule(1, FAULTS)) == sorted(FAULTS)


class Recorder:
    """A group that notes what is done to it, and by which tree."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.done: list[tuple[object, ...]] = []

    def end(self, slot: str) -> None:
        self.done.append(("end", slot))

    def start(self, slot: str) -> None:
        self.done.append(("start", slot, self.tree))

    def pause(self, seconds: float) -> None:
        self.done.append(("pause", seconds))

    def is_ready(self, slot: str) -> bool:
        self.done.append(("is ready", slot))
        return True

    def wait_for(self, _what: str, condition: Callable[[], bool], _deadline_s: float) -> bool:
        return condition()


def test_an_upgrade_replaces_one_consumer_after_the_other_as_a_stateful_set_does() -> None:
    before, after = Path("before"), Path("after")
    group: Any = Recorder(before)
    site: Any = None
    marks: list[tuple[str, str]] = []
    FAULTS["upgrade"](
        Stage(site, group, ("a", "b"), "c", 20.0, lambda *mark: marks.append(mark), after),
        Random(1),  # noqa: S311 - it decides nothing
    )
    assert marks == [("upgrade", "b, a")]
    assert group.done == [
        step
        for slot in "ba"
        for step in (
            ("end", slot),
            ("pause", REPLACED_S),
            ("start", slot, after),
            ("is ready", slot),
            ("pause", SETTLED_S),
        )
    ]


def test_a_checkout_to_upgrade_from_needs_an_upgrade(capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--from", str(ROOT)]
    assert parse_options([*given, "--faults", "upgrade"]).before == ROOT
    with pytest.raises(SystemExit):
        parse_options(given)
    assert "--faults upgrade" in capsys.readouterr().err


def test_a_static_variant_names_each_consumer() -> None:
    environment = VARIANTS["classic-static-10s"].environment_of("consumer-1")
    assert environment["STEPSTREAM_KAFKA__GROUP_PROTOCOL"] == "classic"
    properties = json.loads(environment["STEPSTREAM_KAFKA__PROPERTIES"])
    assert properties["group.instance.id"] == "consumer-1"
    assert VARIANTS["defaults"].environment_of("consumer-1") == {}


def test_a_variant_can_be_given_as_json() -> None:
    content = '{"environment": {"STEPSTREAM_LOGGING__LEVEL": "debug", "NAME": "my-{slot}"}}'
    name, variant = parse_variant(f"mine={content}")
    assert name == "mine"
    assert variant.environment_of("a") == {"STEPSTREAM_LOGGING__LEVEL": "debug", "NAME": "my-a"}


@pytest.mark.parametrize("text", ["unheard-of", "mine=[]", 'mine={"sticky": true}', "mine={"])
def test_a_wrong_variant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"variant|Expecting"):
        parse_variant(text)
