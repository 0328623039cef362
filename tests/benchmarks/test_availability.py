"""The short form of ``make availability``, and how its options are read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.availability import run_quick
from benchmarks.faults import FAULTS, schedule
from benchmarks.variants import VARIANTS, parse_variant
from tests.conftest import missing
from tests.kafka.broker import missing_tool

if TYPE_CHECKING:
    from pathlib import Path

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
