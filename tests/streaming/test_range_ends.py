from __future__ import annotations

from typing import Any, cast

import pytest

from stepstream.settings import ProcessingSettings
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.flow import FlowControl
from stepstream.streaming.partitions import Partition, PauseReason, Phase
from stepstream.streaming.positions import Position, Start
from stepstream.streaming.range_ends import RangeEnds
from stepstream.streaming.ranges import Range
from tests.streaming.records import NOW_US, Clock, FakeRecord
from tests.streaming.test_flow import Kafka
from tests.streaming.test_processor import processor


class Commits:
    """Keeps what is to be committed."""

    def __init__(self) -> None:
        self.added: list[Any] = []

    def add(self, results: list[Any]) -> None:
        self.added += results


class Ends:
    """A partition that runs from 10 to an end, and what it is ended by."""

    def __init__(self, end: int = 20) -> None:
        self.processor, self.partition = processor()
        self.kafka, self.commits = Kafka(), Commits()
        flow = FlowControl(cast("Any", self.kafka), ProcessingSettings())
        self.ends = RangeEnds(self.processor, flow, cast("Any", self.commits), Clock())
        flow.pause([self.partition], PauseReason.PREPARING)
        run_from(self.partition, Range(10, end))
        flow.start(self.partition)

    def poll(self, *offsets: int) -> list[int]:
        """Process messages with these offsets; those that were in the range."""
        records = [FakeRecord(b"d", b"{}", offset) for offset in offsets]
        within = self.ends.cut(cast("Any", {self.partition: records}))
        if within:
            self.processor.process(cast("Any", within), NOW_US)
        self.ends.turn([self.partition])
        return [cast("int", m.offset()) for m in within.get(self.partition, ())]

    def check(self, *, ended: bool) -> None:
        assert (self.partition.phase is Phase.ENDED) == ended
        assert (self.kafka.paused == {3}) == ended
        assert [one.next_offset for one in self.commits.added] == [20] * ended


def run_from(partition: Partition, range_: Range) -> None:
    partition.restore_from(Position(TopicIdentity("id", 4), range_.begin, "", 0, 30, 0))
    partition.start_at(Start(range_.begin, None, range=range_))
    partition.enter(Phase.RUNNING)


def test_messages_behind_the_end_are_not_processed_and_the_end_is_committed() -> None:
    made = Ends()
    assert made.poll(10, 11, 12) == [10, 11, 12]
    made.check(ended=False)
    assert made.poll(13, 19, 20, 21) == [13, 19]
    made.check(ended=True)
    assert made.partition.range.dead_letters == 5
    assert made.partition.lag_messages == 0


def test_the_last_message_before_the_end_ends_it_without_another() -> None:
    made = Ends()
    made.poll(10, 19)
    made.check(ended=True)


@pytest.mark.parametrize("last", [20, 25])
def test_where_no_message_is_before_the_end_the_first_behind_it_or_the_clients_event_ends_it(
    last: int,
) -> None:
    made = Ends()
    assert made.poll(last) == []
    made.check(ended=True)
    made = Ends()
    made.partition.lag.reached_offset = last
    made.ends.turn([made.partition])
    made.check(ended=True)


def test_a_partition_that_waits_for_a_schema_has_not_ended() -> None:
    made = Ends()
    made.partition.lag.reached_offset = 20
    made.partition.pause_reasons.add(PauseReason.SCHEMA)
    made.ends.turn([made.partition])
    assert made.partition.phase is Phase.RUNNING


def test_a_partition_of_run_never_ends() -> None:
    _, partition = processor()
    run_from(partition, Range())
    partition.advance(1 << 40)
    assert not partition.has_reached_end
    assert not partition.has_ended


def test_lag_goes_to_the_end_of_the_range() -> None:
    made = Ends()
    assert made.partition.lag_messages == 10
    made.partition.note_end(1_000, 0)
    made.poll(10, 11)
    assert made.partition.lag_messages == 8
