"""How the loop's parts are put together; each part has tests of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import TopicPartition

from stepstream.streaming.membership import FIRST_PARTITIONS_S
from stepstream.streaming.partitions import Phase
from tests.web.builders import TOPIC, Callbacks, Clock, consumer_without_broker, own, settings

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorded:
    """A client that notes when it is closed; everything else goes to the real one."""

    def __init__(self, name: str, real: Any, closed: list[str]) -> None:
        self._name, self._real, self._closed = name, real, closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def close(self) -> None:
        self._closed.append(self._name)
        self._real.close()


class Recording(Callbacks):
    """Notes in which order clients are closed."""

    closed: list[str]

    def consumer(self, *callbacks: Callable[..., None]) -> Any:
        self.closed = []
        return Recorded("consumer", super().consumer(*callbacks), self.closed)

    def state_consumer(self) -> Any:
        return Recorded("ledger", super().state_consumer(), self.closed)


def test_an_exception_in_a_callback_of_the_client_is_raised_after_the_poll() -> None:
    made_with = settings()
    callbacks = Callbacks(made_with)
    with consumer_without_broker(made_with, connections=callbacks) as consumer:
        callbacks.on_statistics("no JSON")
        with pytest.raises(Exception, match="malformed"):
            consumer.turn()
        consumer.turn()


def test_a_fatal_error_of_the_producer_passes_its_callback_and_reaches_the_commit() -> None:
    """The client calls the callback while it raises, and Python says so when it returns."""
    made_with = settings()
    callbacks = Callbacks(made_with)
    with consumer_without_broker(made_with, connections=callbacks) as consumer:
        with pytest.raises(Exception, match="malformed"):
            callbacks.on_producer_statistics("no JSON")
        consumer.turn()


def test_a_consumer_whose_partitions_are_lost_is_not_ready_until_it_is_a_member_again() -> None:
    with consumer_without_broker() as consumer:
        own(consumer, 0)
        consumer.membership.note_assigned()
        assert consumer.health.is_ready
        partition = consumer.assignment.get(TOPIC, 0)
        consumer.assignment.lose([TopicPartition(TOPIC, 0)])
        assert partition is not None
        assert partition.phase is Phase.RELEASED
        assert consumer.health.obstacles == ["not a member of the group"]
        consumer.assignment.assign([])
        assert consumer.health.obstacles == ["waits for its first partitions"]


def test_a_consumer_that_has_joined_waits_for_partitions_as_long_as_others_may_give_them_up() -> (
    None
):
    clock = Clock()
    waits = ["waits for its first partitions"]
    with consumer_without_broker(system=clock) as consumer:
        consumer.assignment.assign([])
        assert consumer.health.obstacles == waits
        clock.ahead_s = FIRST_PARTITIONS_S - 2
        assert consumer.health.obstacles == waits
        clock.ahead_s = FIRST_PARTITIONS_S
        assert consumer.health.is_ready
        own(consumer, 0)
        consumer.assignment.revoke([TopicPartition(TOPIC, 0)])
        assert consumer.health.is_ready


def test_a_consumer_with_partitions_waits_for_no_more() -> None:
    with consumer_without_broker() as consumer:
        consumer.assignment.assign([])
        own(consumer, 0)
        assert consumer.health.is_ready


def test_the_ledger_reader_is_there_until_the_consumer_has_left_its_group() -> None:
    made_with = settings()
    recording = Recording(made_with)
    with consumer_without_broker(made_with, connections=recording):
        pass
    assert recording.closed == ["consumer", "ledger"]
