"""Which fault an event that came late is counted with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lateness import Lateness, Mark, by_fault, compare, summary

MARKS = [Mark(10.0, "crash", "a"), Mark(30.0, "freeze", "b"), Mark(50.0, "end", "")]


def lateness(*events: tuple[str, float, float]) -> Lateness:
    """Device, time at which it was due, and how late it came."""
    device, due_s, late_s = zip(*events, strict=True)
    return Lateness(np.array(device), np.array(due_s), np.add(due_s, late_s))


def test_a_fault_is_judged_by_what_was_due_until_the_next() -> None:
    seen = lateness(("x", 9.0, 0.1), ("x", 11.0, 6.0), ("y", 12.0, 0.2), ("y", 31.0, 3.0))
    crash, freeze = by_fault(seen, MARKS)
    assert (crash.kind, crash.longest_s, crash.worst_device, crash.late_devices) == (
        "crash", 6.0, "x", 1,
    )  # fmt: skip
    assert crash.p50_s == pytest.approx(3.1)
    assert (freeze.kind, freeze.longest_s, freeze.worst_device) == ("freeze", 3.0, "y")
    assert not crash.is_behind
    assert not freeze.is_behind


def test_what_had_just_come_when_a_fault_began_is_counted_with_it() -> None:
    crash, freeze = by_fault(lateness(("x", 9.5, 6.0), ("y", 29.9, 0.05)), MARKS)
    assert crash.longest_s == 6.0
    assert crash.late_devices == 1
    assert freeze.longest_s == 0.0


def test_a_fault_that_begins_while_events_are_late_is_behind_the_one_before() -> None:
    crash, freeze = by_fault(lateness(("x", 11.0, 45.0), ("x", 31.0, 25.0)), MARKS)
    assert not crash.is_behind
    assert (freeze.longest_s, freeze.is_behind) == (25.0, True)


def test_the_table_prefers_faults_that_began_in_peace() -> None:
    runs = [
        lateness(("x", 11.0, 45.0), ("x", 31.0, 25.0), ("y", 51.0, 0.1)),
        lateness(("x", 11.0, 6.0), ("x", 31.0, 3.0), ("y", 51.0, 0.1)),
    ]
    faults = [fault for seen in runs for fault in by_fault(seen, MARKS)]
    lines = compare({"classic": (faults, summary(runs))}).splitlines()
    assert lines[2:4] == [
        "| crash | 6.0 s to 45.0 s (25.5 s), 1 |",
        "| freeze | 3.0 s (3.0 s), 1 |",
    ]
    assert lines[4] == "| whole run: later than 1 s | 66.7% |"


def test_nothing_published_is_no_error_of_the_benchmark() -> None:
    seen = Lateness(np.array([], np.str_), np.array([]), np.array([]))
    crash, _ = by_fault(seen, MARKS)
    assert crash.longest_s == 0.0
    assert summary([seen])["events"] == 0
    assert seen.curve() == []
