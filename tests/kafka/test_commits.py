"""One contract for both guarantees, on a real broker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer

from stepstream.errors import StreamError
from stepstream.outputs import OutputRecord
from stepstream.streaming.at_least_once import AtLeastOnce
from stepstream.streaming.clients import consumer_properties, producer_properties
from stepstream.streaming.cluster import Cluster, Committed
from stepstream.streaming.committer import COMMITTED, Committer, Outcome
from stepstream.streaming.exactly_once import ExactlyOnce
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.outbox import Results
from stepstream.streaming.partitions import Partition
from stepstream.streaming.system import System
from tests.kafka.builders import wait_until

if TYPE_CHECKING:
    from stepstream.settings import Settings
    from tests.kafka.builders import TopicSet

GUARANTEES = ("exactly_once", "at_least_once")
REPEATED = 25
REPEATED = 25


def leave(consumer: Consumer) -> None:
    """Close a consumer that leaves its group; a static member that closes only doesn't."""
    consumer.unsubscribe()
    wait_until("it has left", lambda: (consumer.poll(0.01), not consumer.memberid())[1])
    consumer.close()


def member(settings: Settings) -> Consumer:
    """A consumer that owns all partitions of the readings topic."""
    consumer = Consumer(consumer_properties(settings))
    consumer.subscribe(list(settings.topics.readings))

    def owns_all() -> bool:
        consumer.poll(0.05)
        return len(consumer.assignment()) == settings.topics.partitions

    wait_until("an assignment", owns_all)
    return consumer


def committer(settings: Settings, consumer: Consumer) -> Committer:
    def make_producer() -> Producer:
        return Producer(producer_properties(settings))

    if settings.processing.guarantee == "exactly_once":
        return ExactlyOnce(make_producer, Cluster(settings), settings, System())
    return AtLeastOnce(make_producer(), consumer, settings.topics, System())


def results(topics: TopicSet, number: int, next_offset: int, *values: bytes) -> Results:
    ledger = Ledger(topics.group, topics.readings, "model-1", 200_000, 600_000_000)
    limit = DeadLetterLimit(10, 0.5, 10)
    partition = Partition(topics.readings, number, ledger, limit, 60_000_000)
    events = [OutputRecord(topics.events, b"device", value) for value in values]
    headers = (("stepstream-error", b"null-value"),)
    letter = OutputRecord(topics.dead_letters, b"bad", None, headers)
    state = OutputRecord(topics.state, b"key", b"%d" % next_offset, partition=number)
    made = Results(partition, next_offset, "metadata", [*events, letter])
    made.add_latest(state)
    return made


def commit(made: Committer, group: object, *given: Results) -> Outcome:
    outcome = made.publish(given, group, time.monotonic() + 20)
    return made.commit_offsets(given) if outcome is COMMITTED else outcome


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_commit_publishes_everything_with_its_offsets(topics: TopicSet, guarantee: str) -> None:
    settings = topics.settings(processing={"guarantee": guarantee})
    consumer = member(settings)
    made = committer(settings, consumer)
    made.open(20)
    commit(
        made,
        consumer.consumer_group_metadata(),
        results(topics, 0, 5, b"a", b"b"),
        results(topics, 2, 7, b"c"),
    )
    commit(made, consumer.consumer_group_metadata(), results(topics, 0, 9))
    assert sorted(m.value() or b"" for m in topics.read(topics.events)) == [b"a", b"b", b"c"]
    letters = topics.read(topics.dead_letters)
    assert [m.value() for m in letters] == [None] * 3
    assert letters[0].headers() == [("stepstream-error", b"null-value")]
    state = [(m.partition() or 0, m.value() or b"") for m in topics.read(topics.state)]
    assert sorted(state) == [(0, b"5"), (0, b"9"), (2, b"7")]
    assert topics.committed() == {0: 9, 2: 7}
    positions = Cluster(settings).committed_offsets([(topics.readings, 0)])
    assert positions == {(topics.readings, 0): Committed(9, "metadata")}
    consumer.close()


@pytest.mark.parametrize("guarantee", GUARANTEES)
def test_a_member_that_has_left_can_commit_no_offsets(topics: TopicSet, guarantee: str) -> None:
    settings = topics.settings(processing={"guarantee": guarantee})
    consumer = member(settings)
    made = committer(settings, consumer)
    made.open(20)
    group = consumer.consumer_group_metadata()
    consumer.unsubscribe()

    def has_left() -> bool:
        consumer.poll(0.05)
        return not topics.describe_group().members

    wait_until("an empty group", has_left)
    given = [results(topics, 0, 5, b"a")]
    assert commit(made, group, *given).left
    assert topics.committed() == {}
    if guarantee == "exactly_once":
        assert topics.read(topics.events) == []
    consumer.close()


def test_an_abort_leaves_the_producer_ready_for_the_next_transaction(topics: TopicSet) -> None:
    settings = topics.settings()
    consumer = member(settings)
    made = committer(settings, consumer)
    made.open(20)
    stale = consumer.consumer_group_metadata()
    leave(consumer)
    assert commit(made, stale, results(topics, 0, 5, b"lost")).left
    again = member(settings)
    commit(made, again.consumer_group_metadata(), results(topics, 0, 5, b"kept"))
    assert [m.value() for m in topics.read(topics.events)] == [b"kept"]
    again.close()


def test_transactions_after_aborted_ones_do_not_fail_as_well(topics: TopicSet) -> None:
    settings = topics.settings()
    consumer = member(settings)
    made = committer(settings, consumer)
    made.open(20)
    stale = consumer.consumer_group_metadata()
    consumer.close()
    again = member(settings)
    group = again.consumer_group_metadata()

    def many(next_offset: int) -> list[Results]:
        """Records in more partitions than a producer has requests under way."""
        given = [results(topics, number, next_offset) for number in range(topics.partitions)]
        given[0].records += [
            OutputRecord(topics.events, b"device-%d" % n, b"%d" % next_offset) for n in range(16)
        ]
        return given

    # What an abort leaves depends on how far the transaction was: in about one of five, too much.
    for n in range(1, REPEATED + 1):
        assert commit(made, stale, *many(n)).left
        assert commit(made, group, *many(n)) is COMMITTED
    assert len(topics.read(topics.events)) == 16 * REPEATED
    again.close()


def test_a_second_owner_of_the_transactional_id_is_named(topics: TopicSet) -> None:
    settings = topics.settings()
    consumer = member(settings)
    first, second = committer(settings, consumer), committer(settings, consumer)
    first.open(20)
    second.open(20)
    group = consumer.consumer_group_metadata()
    # The first is fenced once, finds nothing committed, and may try again.
    left = commit(first, group, results(topics, 0, 5, b"a")).left
    assert [one.next_offset for one in left] == [5]
    committer(settings, consumer).open(20)
    with pytest.raises(StreamError, match=settings.kafka.effective_transactional_id()):
        commit(first, group, *left)
    assert topics.read(topics.events) == []
    consumer.close()
