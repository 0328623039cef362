from __future__ import annotations

import pytest

from stepstream.detection import Ledger
from stepstream.streaming.outbox import Outbox
from stepstream.streaming.partitions import Partition, Phase
from stepstream.streaming.processor import Outputs


def partition(number: int = 0, epoch: int = 1) -> Partition:
    return Partition("readings", number, epoch, Ledger(200_000, 600_000_000))


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
    outbox, old, new = Outbox(), partition(0, 1), partition(0, 2)
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


def test_a_partition_starts_once_and_never_goes_back() -> None:
    mine = partition()
    mine.start()
    assert mine.phase is Phase.RUNNING
    with pytest.raises(RuntimeError, match="can't start"):
        mine.start()
    mine.advance(5)
    with pytest.raises(RuntimeError, match="go back"):
        mine.advance(4)
