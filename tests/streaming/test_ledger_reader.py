"""The ledger is complete at the end that was asked for, even if others write to the topic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.ledger_reader import LedgerReader
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.partitions import Partition
from tests.streaming.records import Clock, FakeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 20.0


@dataclass
class StateMessage(FakeRecord):
    """A record of a state partition, or its end."""

    number: int = 0
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def partition(self) -> int:
        return self.number


@dataclass
class StateConsumer:
    """Returns what a test says, turn by turn, and knows what is assigned."""

    turns: list[list[StateMessage]] = field(default_factory=list)
    assigned: set[int] = field(default_factory=set)

    def consume(self, _most: int, _timeout_s: float) -> list[StateMessage]:
        return self.turns.pop(0) if self.turns else []

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned |= {tp.partition for tp in partitions}

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        numbers = {tp.partition for tp in partitions}
        if not numbers <= self.assigned:
            raise KafkaException(KafkaError(KafkaError._INVALID_ARG, "not assigned"))
        self.assigned -= numbers


def ledger(topic: str = "readings", group: str = "group") -> Ledger:
    return Ledger(group, topic, "model-1", 200_000, 600_000_000)


def partition(topic: str = "readings", number: int = 0) -> Partition:
    return Partition(topic, number, ledger(topic), DeadLetterLimit(10, 0.5, 10), 60_000_000)


def record(
    offset: int, device: str = "phone", topic: str = "readings", group: str = "group"
) -> StateMessage:
    made = ledger(topic, group)
    made.count(device, offset, [1_000_000])
    return StateMessage(*made.record(device, 0), offset)


def end(offset: int) -> StateMessage:
    return StateMessage(None, None, offset, failure=KafkaError(KafkaError._PARTITION_EOF))


def failure(code: int) -> StateMessage:
    return StateMessage(None, None, 0, failure=KafkaError(code))


def reader(*turns: list[StateMessage]) -> tuple[LedgerReader, StateConsumer, Clock]:
    consumer, clock = StateConsumer(list(turns)), Clock()
    return LedgerReader(cast("Any", consumer), "state", TIMEOUT_S, clock), consumer, clock


def test_an_empty_ledger_is_complete_at_once() -> None:
    made, consumer, _ = reader()
    mine = partition()
    made.add(mine, 0)
    assert made.turn() == [mine]
    assert not consumer.assigned


def test_a_ledger_is_complete_at_the_end_that_was_asked_for_and_read_once() -> None:
    made, consumer, _ = reader([record(0, "a"), record(1, "b")], [end(3)])
    mine = partition()
    made.add(mine, 3)
    assert made.turn() == []
    assert made.remaining == 1
    assert made.turn() == [mine]
    assert len(mine.ledger) == 2
    assert not consumer.assigned
    assert made.remaining == 0


def test_a_ledger_is_complete_though_others_write_and_the_end_never_comes() -> None:
    foreign = [record(n, group="other") for n in range(2, 9)]
    made, consumer, _ = reader([record(0), record(1), *foreign])
    mine = partition()
    made.add(mine, 2)
    assert made.turn() == [mine]
    assert len(mine.ledger) == 1
    assert not consumer.assigned


def test_an_end_before_the_one_that_was_asked_for_is_not_it() -> None:
    # A transaction is open: what is stable ends before it.
    made, _, _ = reader([record(0), end(1)], [record(1, "late"), end(3)])
    mine = partition()
    made.add(mine, 3)
    assert made.turn() == []
    assert made.turn() == [mine]
    assert len(mine.ledger) == 2


def test_several_ends_in_one_turn_complete_a_ledger_once() -> None:
    made, consumer, _ = reader([record(0), end(1), record(1, group="other"), end(3)])
    mine = partition()
    made.add(mine, 1)
    assert made.turn() == [mine]
    assert not consumer.assigned
    assert made.turn() == []


def test_partitions_of_one_number_share_a_state_partition_but_not_their_ends() -> None:
    first, second = partition("readings"), partition("more")
    made, consumer, _ = reader([record(0, topic="readings")], [record(1, topic="more"), end(2)])
    made.add(first, 1)
    made.add(second, 2)
    assert made.turn() == [first]
    assert consumer.assigned == {0}
    assert made.turn() == [second]
    assert (len(first.ledger), len(second.ledger)) == (1, 1)
    assert not consumer.assigned


def test_a_ledger_that_comes_while_its_state_partition_is_read_gets_all_of_it() -> None:
    first, second = partition("readings"), partition("more")
    everything = [record(0, topic="more"), record(1, topic="readings"), end(2)]
    made, _, _ = reader(everything[:1], everything[1:], everything)
    made.add(first, 2)
    assert made.turn() == []
    made.add(second, 2)
    assert made.turn() == [first]
    assert made.turn() == [second]
    assert (len(first.ledger), len(second.ledger)) == (1, 1)


def test_released_partitions_are_not_completed() -> None:
    made, consumer, _ = reader([record(0)], [end(2)])
    mine = partition()
    made.add(mine, 2)
    made.turn()
    made.drop([mine])
    assert not consumer.assigned
    assert made.turn() == []


def test_no_progress_for_too_long_ends_the_process() -> None:
    made, _, clock = reader([record(0)])
    made.add(partition(), 2)
    made.turn()
    clock.now_s += TIMEOUT_S - 1
    made.turn()
    clock.now_s += 2
    with pytest.raises(StreamError, match="state-0: no progress for 20 s"):
        made.turn()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (KafkaError._TRANSPORT, None),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "READ on state"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, None),
        (KafkaError.OFFSET_OUT_OF_RANGE, "can't read state-0"),
    ],
)
def test_errors_that_pass_are_waited_for_and_others_end_the_process(
    code: int, said: str | None
) -> None:
    made, _, _ = reader([failure(code)], [record(0), end(1)])
    mine = partition()
    made.add(mine, 1)
    if said is None and KafkaError(code).retriable():
        assert made.turn() == []
        assert made.turn() == [mine]
    else:
        with pytest.raises(StreamError, match=said):
            made.turn()
