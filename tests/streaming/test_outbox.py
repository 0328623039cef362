from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.outputs import OutputRecord
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.outbox import Outbox, Results
from stepstream.streaming.partitions import Partition, Phase
from stepstream.streaming.positions import Position, Start


def partition(number: int = 0) -> Partition:
    ledger = Ledger("group", "readings", "model-1", 200_000, 600_000_000)
    return Partition("readings", number, ledger, DeadLetterLimit(10, 0.5, 10), 60_000_000)


def results(made: Partition, next_offset: int, *events: bytes, count: bytes = b"") -> Results:
    records = [OutputRecord("step-events", b"device", event) for event in events]
    made_results = Results(made, next_offset, records=records)
    if count:
        made_results.add_latest(OutputRecord("state", b"device", count))
    return made_results


def values(found: Results) -> list[bytes | None]:
    return [record.value for record in found.records]


def test_polls_of_a_partition_merge_into_one_commit() -> None:
    outbox, mine = Outbox(), partition()
    outbox.add([results(mine, 10, b"a")])
    outbox.add([results(mine, 20, b"b", b"c")])
    assert outbox.records == 3
    (merged,) = outbox.drain()
    assert merged.next_offset == 20
    assert values(merged) == [b"a", b"b", b"c"]
    assert outbox.is_empty


def test_results_of_an_abort_are_put_back_before_newer_results() -> None:
    outbox, mine, other = Outbox(), partition(0), partition(1)
    outbox.add([results(mine, 10, b"a")])
    drained = outbox.drain()
    outbox.add([results(mine, 20, b"b"), results(other, 5, b"x")])
    outbox.put_back(drained)
    again = {one.partition: one for one in outbox.drain()}
    assert values(again[mine]) == [b"a", b"b"]
    assert again[mine].next_offset == 20
    assert again[other].next_offset == 5


def test_a_revoked_partition_is_dropped_and_its_next_assignment_is_another() -> None:
    outbox, old, new = Outbox(), partition(0), partition(0)
    outbox.add([results(old, 10, b"a")])
    outbox.drop([old])
    assert outbox.is_empty
    outbox.add([results(new, 4, b"b")])
    assert [one.next_offset for one in outbox.drain()] == [4]


def test_offsets_that_would_go_back_are_refused() -> None:
    outbox, mine = Outbox(), partition()
    outbox.add([results(mine, 10)])
    with pytest.raises(RuntimeError, match="go back"):
        outbox.add([results(mine, 9)])


def test_a_partition_goes_its_way_once_and_never_back() -> None:
    mine = partition()
    with pytest.raises(RuntimeError, match="can't go"):
        mine.enter(Phase.RUNNING)
    mine.restore_from(Position(TopicIdentity("id", 1), -1, "", 0, 9, 0))
    mine.start_at(Start(0, None))
    mine.enter(Phase.RUNNING)
    mine.note_committed(7)
    with pytest.raises(RuntimeError, match="go back from 7 to 6"):
        mine.note_committed(6)
    mine.advance(5)
    with pytest.raises(RuntimeError, match="go back"):
        mine.advance(4)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "drain", "put back", "drop"]),
            st.integers(0, 1),
            st.lists(st.binary(max_size=9), max_size=3),
            st.binary(max_size=9),
        ),
        max_size=20,
    )
)
def test_records_and_bytes_are_those_of_what_waits(
    actions: list[tuple[str, int, list[bytes], bytes]],
) -> None:
    outbox, partitions = Outbox(), [partition(0), partition(1)]
    drained: list[Results] = []
    for n, (action, number, events, count) in enumerate(actions):
        if action == "add":
            outbox.add([results(partitions[number], n, *events, count=count)])
        elif action == "drain" and not drained:
            drained = outbox.drain()
        elif action == "put back":
            outbox.put_back(drained)
            drained = []
        elif action == "drop":
            outbox.drop([partitions[number]])
            drained = [one for one in drained if one.partition is not partitions[number]]
    counted = outbox.records, outbox.size
    waiting = outbox.drain()
    assert counted == (sum(o.record_count for o in waiting), sum(o.size for o in waiting))
    assert (outbox.records, outbox.size) == (0, 0)
