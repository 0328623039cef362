from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stepstream.errors import SettingsError
from stepstream.settings import KafkaSettings, Settings, TopicSettings
from stepstream.streaming.backfill import Backfill, Bounds
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.comparison import Difference, compare
from stepstream.streaming.positions import Position, Start, StartRules
from stepstream.streaming.ranges import NO_END, NOTHING, UNBOUNDED, Range
from stepstream.streaming.starts import plan_start
from stepstream.streaming.stream_time import StreamTime
from tests.streaming.test_processor import processor

if TYPE_CHECKING:
    from stepstream.streaming.partitions import Partition

RANGE = Range(100, 500, 1_700_000_000_000, 7, 1, "--from 2026-11-26T12:00:00Z", 'a "new" model')
CHECKPOINT = Checkpoint(80, 1_000, 4_000, 0, "topic-id", 4, range=RANGE)
POSITION = Position(TopicIdentity("topic-id", 4), 120, CHECKPOINT.encode(), 10, 900, 0)


def start(position: Position, rules: StartRules | None = None) -> Start:
    return plan_start("readings-0", position, 3, Settings(), rules)


def test_a_range_goes_with_each_committed_offset_and_run_writes_none() -> None:
    assert Checkpoint.decode(CHECKPOINT.encode()) == CHECKPOINT
    text = replace(CHECKPOINT, range=UNBOUNDED).encode()
    assert CHECKPOINT.encode().split(" ")[:-1] == text.split(" ")
    decoded = Checkpoint.decode(text)
    assert decoded is not None
    assert decoded.range.end == NO_END


def test_a_partition_goes_on_in_its_range_and_counts_what_came_of_it() -> None:
    found = start(POSITION)
    assert (found.offset, found.checkpoint, found.range) == (120, CHECKPOINT, RANGE)
    _, partition = processor()
    begin(partition, found)
    assert partition.lag_messages == 380
    partition.note_results(5, 2, 3)
    partition.note_results(0, 0, 4)
    checkpoint = Checkpoint.decode(partition.checkpoint(0).encode())
    assert checkpoint is not None
    range_ = checkpoint.range
    assert (range_.readings, range_.dead_letters, range_.steps) == (12, 3, 7)


def begin(partition: Partition, found: Start) -> None:
    partition.restore_from(POSITION)
    partition.start_at(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"first_offset": 600},
        {"topic": TopicIdentity("another", 4)},
        {"topic": TopicIdentity("topic-id", 6)},
        {"end_offset": 400},
    ],
)
def test_at_the_end_of_a_range_it_does_not_matter_what_became_of_the_topic(
    changes: dict[str, object],
) -> None:
    found = start(replace(POSITION, committed_offset=500, **changes))  # type: ignore[arg-type]
    _, partition = processor()
    begin(partition, found)
    assert partition.has_ended
    assert not partition.is_replaying


def test_partitions_added_meanwhile_change_no_range_and_have_none() -> None:
    assert start(replace(POSITION, topic=TopicIdentity("topic-id", 6))).offset == 120
    added = replace(POSITION, committed_offset=-1, metadata="")
    found = start(added, StartRules(None))
    assert found.range == NOTHING
    _, partition = processor()
    begin(partition, found)
    assert partition.has_ended


def test_readings_of_the_past_are_ahead_or_not_by_the_times_of_their_records() -> None:
    time = StreamTime(60_000_000)
    time.is_past = True
    for is_replaying in (False, True):
        limit_us = time.latest_us(np.array([1_000]), 10**15, is_replaying=is_replaying)
        assert limit_us == [61_000_000]


def test_all_topics_that_are_written_get_the_name_and_those_that_are_read_keep_theirs() -> None:
    topics = TopicSettings(readings=("a", "^b"), events="e", replication_factor=3)
    own = topics.into("new")
    assert own.readings == topics.readings
    assert own.written == tuple(f"{name}.new" for name in topics.written)
    assert own.replication_factor == 3
    with pytest.raises(ValueError, match="matches step-events"):
        TopicSettings(readings=(r"^step-events\.",)).into("new")


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        (Bounds(), ""),
        (Bounds(5, 9), "--from 5 --to 9"),
        (
            Bounds(datetime(2026, 1, 2, 3, tzinfo=UTC), None),
            "--from 2026-01-02T03:00:00Z",
        ),
    ],
)
def test_bounds_are_shown_as_they_are_given(bounds: Bounds, text: str) -> None:
    bounds.check()
    assert str(bounds) == text


def test_bounds_that_cannot_be_meant_are_refused() -> None:
    now = datetime.now(UTC)
    for bounds in (Bounds(None, now + timedelta(hours=1)), Bounds(now, now), Bounds(9, 9)):
        with pytest.raises(SettingsError):
            bounds.check()


class Offsets:
    """Partitions with offsets from 10 to 100."""

    def offsets(self, names: list[tuple[str, int]], *, at_end: bool) -> dict[tuple[str, int], int]:
        return dict.fromkeys(names, 100 if at_end else 10)

    def messages_since(self, _: object) -> dict[object, object]:
        return {}


def test_an_offset_behind_every_end_is_refused_since_a_time_was_meant() -> None:
    topics = {"readings": TopicIdentity("topic-id", 4)}
    settings = Settings(kafka=KafkaSettings(group_id="new"))
    plan = Backfill(settings, Offsets(), topics)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="beyond the end of every partition; a time is written"):
        plan._first_checkpoints(Bounds(1_700_000_000, None), "model")
    ranges = [one.range for one in plan._first_checkpoints(Bounds(None, 50), "model").values()]
    assert [(range_.begin, range_.end) for range_ in ranges] == [(10, 50)] * 4


def test_a_comparison_names_who_differs_and_by_how_much() -> None:
    found = {("a", 0): {"same": 10, "more": 30, "new": 4}, ("b", 0): {"same": 1}}
    live = {("a", 0): {"same": 10, "more": 20, "gone": 7}, ("b", 0): {}}
    result = compare(found, live)
    assert (result.devices, result.only_found, result.only_live) == (5, 2, 1)
    assert (result.found, result.live) == (45, 37)
    assert result.ratios[50] == pytest.approx(1.25)
    assert result.most == [
        Difference("a", "more", 30, 20),
        Difference("a", "gone", 0, 7),
        Difference("a", "new", 4, 0),
        Difference("b", "same", 1, 0),
    ]
    assert compare({}, {}).ratios == {}
