from __future__ import annotations

import pytest

from stepstream.streaming.ledger import Ledger
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.outbox import Outbox
from stepstream.streaming.partitions import Partition, Phase
from stepstream.streaming.processor import Outputs


def partition(number: int = 0) -> Partition:
    ledger = Ledger("group", "readings", "model-1", 200_000, 600_000_000)
    return Partition("readings", number, ledger, DeadLetterLimit(10, 0.5, 10))


def outputs(next_offset: int, *events: bytes) -> Outputs:
    return Outputs(events=[(b"device", event) for event in events], next_offset=next_offset)


def test_polls_of_a_partition_merge_into_one_commit() -> None:
    outbox, mine = Outbox(), partition()
    outbox.seal([(mine, outputs(10, b"a"))])
    outbox.seal([(mine, outputs(20, b"b", b"c"))])
    assert len(outbox) == 3
    (sealed,) = outbox.take()
    assert sealed.next_offset == 20
    assert [value for _, value in sealed.events] == [b"a", b"b", b"c"]
    assert outbox.is_empty


def test_what_an_abort_puts_back_comes_before_what_was_sealed_meanwhile() -> None:
    outbox, mine, other = Outbox(), partition(0), partition(1)
    outbox.seal([(mine, outputs(10, b"a"))])
    taken = outbox.take()
    outbox.seal([(mine, outputs(20, b"b")), (other, outputs(5, b"x"))])
    outbox.put_back(taken)
    again = {sealed.partition: sealed for sealed in outbox.take()}
    assert [value for _, value in again[mine].events] == [b"a", b"b"]
    assert again[mine].next_offset == 20
    assert again[other].next_offset == 5


def test_a_revoked_partition_is_dropped_and_its_next_assignment_is_another() -> None:
    outbox, old, new = Outbox(), partition(0), partition(0)
    outbox.seal([(old, outputs(10, b"a"))])
    outbox.drop([old])
    assert outbox.is_empty
    outbox.seal([(new, outputs(4, b"b"))])
    assert [sealed.next_offset for sealed in outbox.take()] == [4]


def test_offsets_that_would_go_back_are_refused() -> None:
    outbox, mine = Outbox(), partition()
    outbox.seal([(mine, outputs(10))])
    with pytest.raises(RuntimeError, match="go back"):
        outbox.seal([(mine, outputs(9))])


def test_a_partition_goes_its_way_once_and_never_back() -> None:
    mine = partition()
    with pytest.raises(RuntimeError, match="can't go"):
        mine.enter(Phase.RUNNING)
    mine.enter(Phase.RESTORING)
    mine.enter(Phase.RUNNING)
    mine.committed(7)
    with pytest.raises(RuntimeError, match="committed 6 after 7"):
        mine.committed(6)
    mine.advance(5)
    with pytest.raises(RuntimeError, match="go back"):
        mine.advance(4)
