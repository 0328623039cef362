from __future__ import annotations

from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException

from stepstream.settings import KafkaSettings, Settings
from stepstream.streaming.client_statistics import ClientStatistics
from stepstream.streaming.membership import FIRST_PARTITIONS_S, REJOIN_S, Membership
from stepstream.streaming.system import System

JOINING = '{"brokers": {"a": {"state": "UP"}}, "cgrp": {"join_state": "wait-join"}}'
STEADY = '{"brokers": {"a": {"state": "UP"}}, "cgrp": {"join_state": "steady"}}'
TURN_S = 0.01


class Kafka:
    """A client that leaves its group some polls after it unsubscribed."""

    def __init__(self, leaves_after: int = 3) -> None:
        self.asked: list[str] = []
        self.has_unsubscribed = False
        self.polls_left = leaves_after
        self.name = "a"
        self.name_after_group = ""

    def list_topics(self, topic: str, timeout: float) -> None:
        assert timeout == 0
        self.asked.append(topic)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    def unsubscribe(self) -> None:
        self.has_unsubscribed = True

    def memberid(self) -> str:
        return "" if self.has_unsubscribed and self.polls_left <= 0 else self.name

    def consumer_group_metadata(self) -> str:
        group = f"group of {self.name}"
        self.name = self.name_after_group or self.name
        return group


class Clock(System):
    """A clock that a test moves."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class Member:
    """A membership, its client and its clock."""

    def __init__(
        self, protocol: Literal["classic", "consumer"] = "classic", leaves_after: int = 3
    ) -> None:
        self.kafka, self.clock = Kafka(leaves_after), Clock()
        self.statistics = ClientStatistics()
        settings = Settings(kafka=KafkaSettings(group_protocol=protocol))
        kafka: Any = self.kafka
        self.membership = Membership(kafka, settings, self.statistics, self.clock)

    def turn_for(self, seconds: float) -> None:
        """Turn often."""
        end_s = self.clock.now_s + seconds
        while self.clock.now_s < end_s:
            self.clock.now_s += TURN_S
            self.membership.turn()

    def leave(self, timeout_s: float = 5.0, on_poll: dict[int, str] | None = None) -> int:
        """Leave; returns the number of polls. Statistics come at some of them."""
        polls = 0

        def poll(seconds: float) -> None:
            nonlocal polls
            polls += 1
            self.clock.now_s += seconds
            self.kafka.polls_left -= self.kafka.has_unsubscribed
            if on_poll and polls in on_poll:
                self.statistics.update(on_poll[polls])

        self.membership.leave(timeout_s, poll)
        return polls


def test_it_asks_for_metadata_while_another_rebalance_may_follow_and_only_then() -> None:
    member = Member()
    member.turn_for(1.0)
    assert not member.kafka.asked
    member.membership.note_assigned()
    member.turn_for(REJOIN_S / 2)
    early = len(member.kafka.asked)
    assert early > REJOIN_S / 2 / 0.1
    member.turn_for(REJOIN_S)
    assert early < len(member.kafka.asked) < REJOIN_S / 0.04
    late = len(member.kafka.asked)
    member.turn_for(5.0)
    assert len(member.kafka.asked) == late


def test_the_newer_protocol_needs_no_help() -> None:
    member = Member("consumer")
    member.membership.note_assigned()
    member.turn_for(REJOIN_S)
    assert not member.kafka.asked
    assert member.leave() == 0
    assert not member.kafka.has_unsubscribed


def test_a_static_member_unsubscribes_and_waits_until_it_has_left() -> None:
    member = Member(leaves_after=3)
    assert member.leave() == 3
    assert member.kafka.has_unsubscribed


def test_leaving_is_bounded() -> None:
    member = Member(leaves_after=10**9)
    begin_s = member.clock.now_s
    member.leave(timeout_s=2.0)
    assert 2.0 <= member.clock.now_s - begin_s < 2.1


def test_it_leaves_only_when_it_has_its_place_in_the_group() -> None:
    member = Member(leaves_after=1)
    member.statistics.update(JOINING)
    assert member.leave(on_poll={40: STEADY}) == 41
    joining = Member(leaves_after=1)
    joining.statistics.update(JOINING)
    joining.membership.note_assigned()
    assert joining.leave() == 1


def test_a_client_without_a_connection_waits_for_no_place() -> None:
    member = Member(leaves_after=1)
    member.statistics.update(JOINING.replace("UP", "DOWN"))
    assert member.leave() == 1


def test_it_is_a_member_from_the_first_assignment_until_partitions_are_lost() -> None:
    member = Member()
    seen = [member.membership.is_member]
    member.membership.note_assigned()
    seen.append(member.membership.is_member)
    member.membership.note_lost()
    seen.append(member.membership.is_member)
    assert seen == [False, True, False]


def test_a_member_that_the_group_has_dropped_is_none() -> None:
    member = Member(leaves_after=0)
    member.membership.note_assigned()
    member.kafka.has_unsubscribed = True
    member.membership.turn()
    seen = [member.membership.is_member]
    member.membership.note_statistics()
    member.membership.turn()
    seen.append(member.membership.is_member)
    assert seen == [True, False]


def test_it_has_just_joined_for_as_long_as_partitions_may_be_on_their_way() -> None:
    member = Member()
    seen = [member.membership.has_just_joined]
    member.membership.note_assigned()
    for pause_s in (FIRST_PARTITIONS_S - 1, 1):
        member.clock.now_s += pause_s
        member.membership.note_assigned()
        seen.append(member.membership.has_just_joined)
    assert seen == [False, True, False]


def test_nothing_is_committed_under_another_id_than_partitions_were_assigned_to() -> None:
    member = Member()
    seen = [member.membership.group()]
    member.membership.note_assigned()
    seen.append(member.membership.group())
    assert not member.membership.has_been_replaced()
    member.kafka.name = "b"
    seen.append(member.membership.group())
    assert member.membership.has_been_replaced()
    assert not member.membership.has_been_replaced()
    member.membership.note_assigned()
    seen.append(member.membership.group())
    member.membership.note_lost()
    member.membership.note_assigned()
    seen.append(member.membership.group())
    assert seen == [None, "group of a", None, None, "group of b"]


def test_an_id_that_changes_while_the_group_is_asked_for_is_noticed() -> None:
    member = Member()
    member.membership.note_assigned()
    member.kafka.name_after_group = "b"
    assert member.membership.group() is None
    assert member.membership.has_been_replaced()


def test_a_member_without_an_id_is_not_replaced_but_dropped() -> None:
    member = Member(leaves_after=0)
    member.membership.note_assigned()
    member.kafka.has_unsubscribed = True
    assert member.membership.group() is None
    assert not member.membership.has_been_replaced()
