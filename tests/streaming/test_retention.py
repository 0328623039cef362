"""For how long unread readings are safe."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.ledger import Ledger
from stepstream.streaming.limits import DeadLetterLimit
from stepstream.streaming.partitions import Partition
from stepstream.streaming.positions import Position, Start
from stepstream.streaming.retention import LIMITS_S, Limits, Retention
from stepstream.streaming.system import System

if TYPE_CHECKING:
    from collections.abc import Iterable

HOUR_MS = 3_600_000
NOW_MS = 1_700_000_000_000
NAME = ("readings", 0)


class Clock(System):
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return self.ahead_s

    def now_us(self) -> int:
        return NOW_MS * 1000 + round(self.ahead_s * 1e6)


class Brokers:
    """What the cluster says, and what it was asked."""

    def __init__(self, limits: Limits, first: tuple[int, int] = (0, 0)) -> None:
        self.limits = limits
        self.first = first
        self.is_away = False
        self.asked_limits = 0
        self.asked_first: list[list[tuple[str, int]]] = []

    def retention_limits(self, topics: Iterable[str]) -> dict[str, Limits]:
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        self.asked_limits += 1
        return dict.fromkeys(topics, self.limits)

    def first_messages(self, names: list[tuple[str, int]]) -> dict[tuple[str, int], Any]:
        self.asked_first.append(names)
        return dict.fromkeys(names, self.first)


def partition(*, behind_ms: int, waiting: int = 5) -> Partition:
    """A partition whose last processed message is some time old, and of which some are unread."""
    ledger = Ledger("group", "readings", "model-1", 200_000, 600_000_000)
    made = Partition("readings", 0, ledger, DeadLetterLimit(10, 0.5, 10), 60_000_000)
    made.restore_from(Position(TopicIdentity("id", 4), -1, "", 0, 100, 0))
    made.start_at(Start(0, None))
    made.advance(100 - waiting)
    made.time.ms = NOW_MS - behind_ms
    made.note_end(100, NOW_MS)
    return made


def retention(brokers: Brokers, owned: list[Partition]) -> tuple[Retention, Clock]:
    clock = Clock()
    assignment: Any = SimpleNamespace(owned=owned)
    cluster: Any = brokers
    return Retention(assignment, cluster, clock), clock


@pytest.mark.parametrize(
    ("limits", "first", "behind_ms", "headroom_s"),
    [
        (Limits(24 * HOUR_MS, has_size=False), (0, 0), HOUR_MS, 23 * 3600),
        (Limits(24 * HOUR_MS, has_size=False), (0, 0), 30 * HOUR_MS, 0),
        (Limits(math.inf, has_size=False), (0, 0), HOUR_MS, math.inf),
        # Six hours are as much as the size allows.
        (Limits(24 * HOUR_MS, has_size=True), (70, NOW_MS - 6 * HOUR_MS), HOUR_MS, 5 * 3600),
        (Limits(math.inf, has_size=True), (70, NOW_MS - 6 * HOUR_MS), HOUR_MS, 5 * 3600),
        # Nothing was deleted yet: how long the size lasts isn't known.
        (Limits(24 * HOUR_MS, has_size=True), (0, NOW_MS - 6 * HOUR_MS), HOUR_MS, 23 * 3600),
    ],
)
def test_headroom_is_what_the_stricter_limit_leaves(
    limits: Limits, first: tuple[int, int], behind_ms: int, headroom_s: float
) -> None:
    one = partition(behind_ms=behind_ms)
    made, _ = retention(Brokers(limits, first), [one])
    made.refresh()
    assert made.headroom_s(one) == headroom_s


def test_with_nothing_unread_all_of_the_retention_is_left() -> None:
    one = partition(behind_ms=9 * HOUR_MS, waiting=0)
    made, _ = retention(Brokers(Limits(10 * HOUR_MS, has_size=False)), [one])
    assert made.headroom_s(one) is None
    made.refresh()
    assert made.headroom_s(one) == 10 * 3600


def test_first_messages_are_asked_for_only_where_the_size_is_limited() -> None:
    brokers = Brokers(Limits(HOUR_MS, has_size=False))
    made, clock = retention(brokers, [partition(behind_ms=0)])
    made.refresh()
    assert brokers.asked_first == [[]]
    brokers.limits = Limits(HOUR_MS, has_size=True)
    clock.ahead_s = LIMITS_S
    made.refresh()
    assert brokers.asked_first == [[], [NAME]]


def test_limits_are_looked_up_now_and_then_and_kept_while_the_brokers_are_away() -> None:
    brokers = Brokers(Limits(HOUR_MS, has_size=False))
    one = partition(behind_ms=0)
    made, clock = retention(brokers, [one])
    for clock.ahead_s in (0.0, LIMITS_S - 1, LIMITS_S):
        made.refresh()
    assert brokers.asked_limits == 2
    brokers.is_away = True
    clock.ahead_s = 2 * LIMITS_S
    made.refresh()
    assert made.headroom_s(one) == 3600 - 2 * LIMITS_S


def test_a_consumer_without_partitions_asks_for_nothing() -> None:
    brokers = Brokers(Limits(HOUR_MS, has_size=True))
    made, _ = retention(brokers, [])
    made.refresh()
    assert made.limits == {}
