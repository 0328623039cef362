from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest

from stepstream.errors import StreamError
from stepstream.settings import AbnormalStart, KafkaSettings, ProcessingSettings, Settings
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.positions import Position, Start, StartRules
from stepstream.streaming.starts import plan_start

CHECKPOINT = Checkpoint(80, 1_000, 4_000, 25, "topic-id", 4)
POSITION = Position(TopicIdentity("topic-id", 4), 100, CHECKPOINT.encode(), 10, 500, 0)


def plan(
    position: Position, *accept: AbnormalStart, ledger_size: int = 3, counted_to: int = -1
) -> Start:
    settings = Settings(processing=ProcessingSettings(accept=accept))
    return plan_start("readings-0", position, ledger_size, settings, counted_to=counted_to)


def test_a_start_goes_on_at_the_committed_offset_and_replays_from_the_checkpoint() -> None:
    assert plan(POSITION) == Start(100, CHECKPOINT)


@pytest.mark.parametrize(
    ("start_at", "offset"), [("earliest", 10), ("latest", 500), ("2030-01-31T12:00:00Z", 77)]
)
def test_a_new_group_begins_where_the_setting_says(start_at: Any, offset: int) -> None:
    settings = Settings(kafka=KafkaSettings(start_at=start_at))
    position = replace(POSITION, committed_offset=-1, metadata="", timed_offset=77)
    assert plan_start("readings-0", position, 0, settings) == Start(offset, None)


@pytest.mark.parametrize("metadata", ["", "another program's", "stepstream/1 not numbers at all -"])
def test_an_offset_without_metadata_starts_there_with_empty_windows(metadata: str) -> None:
    assert plan(replace(POSITION, metadata=metadata)) == Start(100, None)


@pytest.mark.parametrize("is_recreated", [False, True])
def test_step_counts_without_an_offset_are_of_this_topic_or_of_one_that_was_deleted(
    is_recreated: bool,
) -> None:
    position = replace(POSITION, committed_offset=-1, metadata="")
    kind = "recreated-topic" if is_recreated else "missing-offset"
    with pytest.raises(StreamError, match=f"add {kind} to processing.accept"):
        plan_start("readings-0", position, 3, Settings(), is_recreated=is_recreated)


def test_a_recreated_topic_that_matches_a_pattern_is_read_from_its_start() -> None:
    rules = StartRules("latest", may_be_recreated=True)
    without = replace(POSITION, committed_offset=-1, metadata="")
    start = plan_start("readings-0", without, 3, Settings(), rules, is_recreated=True)
    assert (start.offset, start.checkpoint, len(start.warnings)) == (10, None, 1)
    other = replace(POSITION, topic=TopicIdentity("other", 4))
    assert plan_start("readings-0", other, 3, Settings(), rules) == start


def test_a_replay_begins_at_the_topics_start_if_that_is_later_with_a_warning() -> None:
    start = plan(replace(POSITION, first_offset=90))
    assert (start.offset, start.checkpoint) == (100, replace(CHECKPOINT, replay_offset=90))
    assert len(start.warnings) == 1


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    [
        ("lost-readings", {"first_offset": 101}, (101, None)),
        ("missing-offset", {"committed_offset": -1, "metadata": ""}, (10, None)),
        ("recreated-topic", {"topic": TopicIdentity("other", 4)}, (10, None)),
        ("offset-beyond-end", {"end_offset": 99}, (99, None)),
        ("changed-partitions", {"topic": TopicIdentity("topic-id", 6)}, (100, CHECKPOINT)),
    ],
)
def test_an_abnormal_start_is_refused_unless_a_setting_accepts_it(
    kind: AbnormalStart, change: dict[str, object], expected: tuple[int, Checkpoint | None]
) -> None:
    position = replace(POSITION, **change)  # type: ignore[arg-type]
    with pytest.raises(StreamError, match=f"readings-0: .*add {kind} to processing.accept"):
        plan(position)
    start = plan(position, kind)
    assert (start.offset, start.checkpoint) == expected
    assert len(start.warnings) == 1


@pytest.mark.parametrize(
    ("metadata", "accept", "first"),
    [
        ("", (), 10),
        ("another program's", (), 10),
        (replace(CHECKPOINT, next_offset=400).encode(), (), 10),
        ("", ("lost-readings",), 120),
    ],
)
def test_an_offset_that_others_set_below_counted_steps_is_refused_with_both_ways_on(
    metadata: str, accept: tuple[AbnormalStart, ...], first: int
) -> None:
    position = replace(POSITION, metadata=metadata, first_offset=first)
    offset = max(100, first)
    assert plan(position, *accept, counted_to=offset - 1) == Start(offset, None, ANY)
    with pytest.raises(StreamError, match=r"rewound-offset to processing\.accept.*backfill"):
        plan(position, *accept, counted_to=offset)
    start = plan(position, *accept, "rewound-offset", counted_to=offset)
    assert (start.offset, start.checkpoint, start.read_from) == (offset + 1, None, offset)
    assert "nothing up to there is published again" in start.warnings[-1]


def test_without_a_committed_offset_what_was_counted_is_only_read() -> None:
    without = replace(POSITION, committed_offset=-1, metadata="")
    start = plan(without, "missing-offset", counted_to=300)
    assert (start.offset, start.checkpoint, start.read_from) == (301, None, 10)
    assert plan(without, "missing-offset", counted_to=9).read_from is None


def test_messages_at_offsets_that_a_topic_lost_are_new() -> None:
    """An unclean election took away the end of the log, where steps were counted."""
    position = replace(POSITION, committed_offset=99, metadata="", end_offset=100)
    start = plan(position, "rewound-offset", counted_to=300)
    assert (start.offset, start.read_from) == (100, 99)
    start = plan(replace(position, committed_offset=100), "rewound-offset", counted_to=300)
    assert (start.offset, start.read_from) == (100, None)


@pytest.mark.parametrize("next_offset", [None, 100])
def test_steps_counted_above_an_offset_of_our_own_are_what_at_least_once_leaves(
    next_offset: int | None,
) -> None:
    own = replace(CHECKPOINT, next_offset=next_offset)
    start = plan(replace(POSITION, metadata=own.encode()), counted_to=450)
    assert start == Start(100, own)


def test_a_held_partition_starts_held_and_its_replay_waits_until_it_is_released() -> None:
    held = replace(CHECKPOINT, next_offset=100, is_held=True)
    start = plan(replace(POSITION, metadata=held.encode()))
    assert (start.offset, start.is_held) == (100, True)
    assert start.checkpoint == replace(held, replay_offset=100, replay_ms=4_000)
    released = plan(replace(POSITION, metadata=replace(held, is_held=False).encode()))
    assert released == Start(100, replace(held, is_held=False))


@pytest.mark.parametrize("setting", ["stop", "continue"])
def test_no_partition_is_held_if_the_settings_say_otherwise(setting: Any) -> None:
    held = replace(CHECKPOINT, next_offset=100, is_held=True)
    settings = Settings(processing=ProcessingSettings(on_dead_letter_limit=setting))
    start = plan_start("readings-0", replace(POSITION, metadata=held.encode()), 3, settings)
    assert start == Start(100, held)


def test_a_broker_without_topic_ids_is_no_recreated_topic() -> None:
    assert plan(replace(POSITION, topic=TopicIdentity("", 4))) == Start(100, CHECKPOINT)


def test_metadata_comes_back_and_that_of_a_newer_release_is_refused() -> None:
    unnamed = replace(CHECKPOINT, topic_id="", next_offset=100)
    held = replace(CHECKPOINT, is_held=True)
    for checkpoint in (CHECKPOINT, unnamed, held, replace(held, next_offset=100)):
        assert Checkpoint.decode(checkpoint.encode()) == checkpoint
        assert Checkpoint.decode(checkpoint.encode() + " something-new") == checkpoint
    with pytest.raises(StreamError, match="version 2"):
        Checkpoint.decode(CHECKPOINT.encode().replace("stepstream/1", "stepstream/2"))
