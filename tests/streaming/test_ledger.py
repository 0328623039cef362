from __future__ import annotations

import json

import pytest

from stepstream.errors import StreamError
from stepstream.outputs import ActivityRules, CountedStep
from stepstream.streaming.ledger import Entry, Ledger

DAY_MS = 86_400_000


def ledger(topic_id: str = "id-1", group: str = "group") -> Ledger:
    made = Ledger(group, "readings", "model-1", 200_000, 600_000_000)
    made.topic_id = topic_id
    return made


def record_of(offset: int = 7, **changes: object) -> tuple[bytes, bytes]:
    """A device's state record after three steps, with changes to its value."""
    made = ledger()
    made.count("phone", offset, [1_000_000, 2_000_000, 3_000_000])
    key, value = made.record("phone", 5)
    return key, json.dumps({**json.loads(value), **changes}).encode()


def test_a_record_restores_the_count_and_what_was_counted_stays_counted() -> None:
    made = ledger()
    made.restore(*record_of(), written_ms=5)
    assert made.get("phone") == Entry(3, 3_000_000, 7, 5)
    assert made.count("phone", 7, [9_000_000]) == [None]
    assert made.count("phone", 8, [3_100_000, 4_000_000]) == [None, 4]


def test_unknown_fields_are_ignored_and_a_newer_version_is_refused() -> None:
    made = ledger()
    made.restore(*record_of(added="later"), written_ms=5)
    assert len(made) == 1
    for changes in ({"version": 2}, {"version": 2, "step_count": "three"}):
        with pytest.raises(StreamError, match="has version 2"):
            made.restore(*record_of(**changes), written_ms=5)


def test_a_record_that_cannot_be_read_stops_the_start() -> None:
    with pytest.raises(StreamError, match="'phone' can't be read"):
        ledger().restore(*record_of(step_count="three"), written_ms=5)


def test_records_of_other_groups_and_keys_are_passed_over() -> None:
    made = ledger(group="other")
    made.restore(*record_of(), written_ms=5)
    made.restore(None, b"x", written_ms=5)
    assert len(made) == 0


def test_the_highest_offset_wins_and_a_tombstone_forgets() -> None:
    made = ledger()
    made.restore(*record_of(9, step_count=5), written_ms=1)
    made.restore(*record_of(7), written_ms=2)
    assert made.get("phone") == Entry(5, 3_000_000, 9, 1)
    made.restore(record_of()[0], None, written_ms=3)
    assert len(made) == 0


def test_offsets_of_another_topic_or_beyond_the_end_bar_nothing() -> None:
    recreated, cut = ledger("id-2"), ledger()
    cut.end_offset = 7
    for made in (recreated, cut):
        made.restore(*record_of(7), written_ms=5)
        assert made.count("phone", 2, [3_100_000, 4_000_000]) == [None, 4]


def test_old_entries_are_forgotten_unless_their_device_still_sends() -> None:
    made = ledger()
    for device in ("gone", "here", "young"):
        made.count(device, 1, [1_000_000])
        made.record(device, DAY_MS * 9 if device == "young" else 0)
    upkeep = made.maintain(DAY_MS * 11, DAY_MS * 10, lambda device: device == "here")
    assert upkeep == (["here"], ["gone"])
    assert made.get("gone") is None
    assert made.get("here") == Entry(1, 1_000_000, 1, 0)
    assert made.maintain(DAY_MS * 11 + 500, DAY_MS * 10, lambda _: False) == ([], [])


def test_entries_of_a_release_without_minutes_are_read_and_begin_them_anew() -> None:
    rules = ActivityRules(minutes=True, walks=True, walk_gap_us=10_000_000, grace_us=30_000_000)
    made = Ledger("group", "readings", "model-1", 200_000, 600_000_000, rules)
    older = {"version": 1, "step_count": 7, "ended_us": 5_000_000, "offset": 3, "topic_id": ""}
    made.restore(b'["group","readings","phone"]', json.dumps(older).encode(), 0)
    assert made.get("phone") == Entry(7, 5_000_000, 3, 0)
    assert made.activities.get("phone") is None


def test_open_minutes_and_walks_survive_in_the_entry() -> None:
    rules = ActivityRules(minutes=True, walks=True, walk_gap_us=10_000_000, grace_us=30_000_000)
    made, again = (
        Ledger("group", "readings", "model-1", 200_000, 600_000_000, rules) for _ in range(2)
    )
    made.count("phone", 3, [5_000_000])
    step = CountedStep("readings", 0, 3, 0, b"phone", "phone", 1, 4_500_000, 5_000_000, 0.9, 0.9)
    made.activities.add(step, 5_400)
    again.restore(*made.record("phone", 0), 0)
    assert again.activities.get("phone") == made.activities.get("phone") is not None
