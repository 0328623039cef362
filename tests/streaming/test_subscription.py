"""Which topics are subscribed to, as topics come, change and go."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stepstream.commands.backfill import Backfill
from stepstream.settings import KafkaSettings, Settings, TopicSettings
from stepstream.streaming.cluster import FoundTopic, TopicIdentity
from stepstream.streaming.positions import StartRules
from stepstream.streaming.subscription import Changes, Subscription
from tests.streaming.records import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepstream.streaming.positions import StartAt

TIME = datetime(2030, 1, 31, tzinfo=UTC)
INTERVAL_S = 10.0
NOTHING = Changes(frozenset(), frozenset())


class Kafka:
    """What a consumer is subscribed to."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.calls = 0

    def subscribe(self, topics: list[str], **_: Any) -> None:
        self.topics = topics
        self.calls += 1

    def unsubscribe(self) -> None:
        self.topics = []


class Cluster:
    """Topics that exist, by name."""

    def __init__(self, *names: str) -> None:
        self.topics = {name: self.topic(name) for name in names}
        self.committed: frozenset[str] = frozenset()
        self.is_away = False
        self.looks = 0

    @staticmethod
    def topic(topic_id: str, partitions: int = 2, obstacle: str = "") -> FoundTopic:
        return FoundTopic(TopicIdentity(topic_id, partitions), obstacle)

    def find_topics(self, topics: TopicSettings) -> dict[str, FoundTopic]:
        self.looks += 1
        if self.is_away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return {name: found for name, found in self.topics.items() if topics.reads(name)}

    def committed_topics(self) -> frozenset[str]:
        return self.committed


class Immediate:
    """Makes calls at once, in the same thread."""

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*arguments))
        except KafkaException as error:
            future.set_exception(error)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Nothing runs."""


class OneThread(Clock):
    def executor(self, name: str) -> Immediate:  # noqa: ARG002 - all are alike
        return Immediate()


class Setup:
    def __init__(
        self,
        *names: str,
        readings: tuple[str, ...] = ("^t",),
        start_at: Any = "earliest",
        kind: type[Settings] = Settings,
    ) -> None:
        self.kafka = Kafka()
        self.cluster = Cluster(*names)
        self.clock = OneThread()
        settings = kind(
            topics=TopicSettings(readings=readings), kafka=KafkaSettings(start_at=start_at)
        )
        kafka: Any = self.kafka
        cluster: Any = self.cluster
        self.made = Subscription(kafka, cluster, settings, INTERVAL_S, self.clock)

    def begin(self) -> Subscription:
        self.made.begin()
        self.look(0.0)
        return self.made

    def look(self, after_s: float = INTERVAL_S) -> Changes:
        """What changes after a time, when all calls are complete."""
        self.clock.now_s += after_s
        first = self.made.turn()
        assert first == NOTHING
        return self.made.turn()


def test_named_topics_are_subscribed_to_whether_they_exist_or_not() -> None:
    setup = Setup("other", readings=("b", "a"))
    setup.begin()
    assert setup.kafka.topics == ["a", "b"]
    assert setup.look() == NOTHING
    assert setup.look() == NOTHING
    assert setup.kafka.calls == 1


def test_topics_that_match_come_and_go_beside_named_ones() -> None:
    setup = Setup("t1", "named", readings=("named", "^t"))
    setup.begin()
    assert setup.kafka.topics == ["named", "t1"]
    setup.cluster.topics["t2"] = Cluster.topic("t2")
    assert setup.look() == NOTHING
    assert setup.kafka.topics == ["named", "t1", "t2"]
    del setup.cluster.topics["t1"]
    assert setup.look() == NOTHING
    assert setup.kafka.topics == ["named", "t1", "t2"], "a broker may not know it yet"
    assert setup.look(1.0) == Changes(frozenset({"t1"}), frozenset())
    assert setup.kafka.topics == ["named", "t2"]
    assert setup.kafka.calls == 3


def test_a_topic_that_a_broker_has_forgotten_for_a_moment_stays() -> None:
    setup = Setup("t1", "t2")
    setup.begin()
    before = setup.cluster.topics
    setup.cluster.topics = {}
    setup.look()
    setup.cluster.topics = before
    assert setup.look(1.0) == NOTHING
    setup.cluster.topics = {}
    assert setup.look() == NOTHING
    assert (setup.kafka.topics, setup.kafka.calls) == (["t1", "t2"], 1)


def test_nothing_changes_while_no_broker_answers() -> None:
    setup = Setup("t1")
    setup.begin()
    setup.cluster.is_away = True
    assert setup.look() == NOTHING
    assert setup.look() == NOTHING
    assert setup.kafka.topics == ["t1"]


@pytest.mark.parametrize("readings", [("t1",), ("^t",)])
def test_a_topic_with_another_id_is_another_topic(readings: tuple[str, ...]) -> None:
    setup = Setup("t1", readings=readings)
    setup.begin()
    setup.cluster.topics["t1"] = Cluster.topic("another")
    assert setup.look() == Changes(frozenset(), frozenset({"t1"}))
    assert setup.look() == NOTHING


def test_a_topic_that_cannot_be_read_is_left_out_and_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = Setup("t1")
    setup.begin()
    setup.cluster.topics["t2"] = Cluster.topic("t2", obstacle="it is too large")
    with caplog.at_level(logging.ERROR):
        setup.look()
        setup.look()
    assert caplog.messages == ["topic t2 matches a pattern, but it isn't read: it is too large"]
    assert setup.kafka.topics == ["t1"]
    assert setup.made.refused == {"t2": "it is too large"}
    setup.cluster.topics["t2"] = Cluster.topic("t2")
    setup.look()
    assert setup.kafka.topics == ["t1", "t2"]
    assert setup.made.refused == {}


def test_without_any_topic_nothing_is_subscribed_to() -> None:
    setup = Setup()
    subscription = setup.begin()
    assert (setup.kafka.topics, setup.kafka.calls, subscription.names) == ([], 0, frozenset())
    setup.cluster.topics["t1"] = Cluster.topic("t1")
    setup.look()
    assert setup.kafka.topics == ["t1"]


def test_looks_are_an_interval_apart_or_a_second_if_something_happens() -> None:
    setup = Setup("t1")
    subscription = setup.begin()
    looks = setup.cluster.looks
    setup.look(INTERVAL_S / 2)
    assert setup.cluster.looks == looks
    subscription.look_soon()
    setup.look(0.0)
    assert setup.cluster.looks == looks + 1
    subscription.look_soon()
    setup.look(0.5)
    assert setup.cluster.looks == looks + 1
    setup.look(0.5)
    assert setup.cluster.looks == looks + 2


def new_topics(setup: Setup) -> None:
    setup.cluster.topics["t1"] = Cluster.topic("t1", 4)
    setup.cluster.topics["t2"] = Cluster.topic("t2")
    setup.look()


def recreated(setup: Setup) -> None:
    setup.cluster.topics["t1"] = Cluster.topic("another", 4)
    setup.look()


MATCHED, NAMED = ("^t",), ("t1", "t2")


@pytest.mark.parametrize(
    ("readings", "start_at", "committed", "then", "later"),
    [
        (MATCHED, "earliest", (), new_topics, []),
        (MATCHED, "latest", (), new_topics, [("t1", 0), ("t1", 1)]),
        (MATCHED, TIME, (), new_topics, [("t1", 0), ("t1", 1)]),
        (MATCHED, "latest", ("t1",), new_topics, []),
        (MATCHED, "latest", ("t9",), new_topics, []),
        (MATCHED, "latest", (), recreated, []),
        (NAMED, "earliest", (), new_topics, []),
        (NAMED, "latest", (), new_topics, [("t1", 0), ("t1", 1)]),
        (NAMED, TIME, (), new_topics, [("t1", 0), ("t1", 1)]),
        (NAMED, "latest", ("t1",), new_topics, []),
        (NAMED, "latest", ("t9",), new_topics, [("t1", 0), ("t1", 1)]),
        (NAMED, "latest", (), recreated, []),
    ],
)
def test_only_what_was_there_when_the_group_began_starts_later(
    readings: tuple[str, ...],
    start_at: StartAt,
    committed: tuple[str, ...],
    then: Callable[[Setup], None],
    later: list[tuple[str, int]],
) -> None:
    setup = Setup("t1", readings=readings, start_at=start_at)
    setup.cluster.committed = frozenset(committed)
    subscription = setup.begin()
    then(setup)
    places = [(topic, number) for topic in ("t1", "t2") for number in range(4)]
    rules = {place: subscription.start_rules(*place) for place in places}
    assert [place for place in places if rules[place].start_at != "earliest"] == later
    assert {each.may_be_recreated for each in rules.values()} == {readings is MATCHED}


def test_named_topics_wait_for_a_look_if_they_start_at_their_end() -> None:
    setup = Setup("t1", readings=("t1",), start_at="latest")
    setup.cluster.is_away = True
    setup.begin()
    assert setup.kafka.topics == []
    setup.cluster.is_away = False
    setup.look(1.0)
    assert setup.kafka.topics == ["t1"]
    assert setup.made.start_rules("t1", 0) == StartRules("latest")


def test_a_backfill_reads_nothing_of_a_partition_that_was_given_no_range() -> None:
    setup = Setup("t1", readings=("t1",), start_at="latest", kind=Backfill)
    setup.begin()
    assert setup.kafka.topics == ["t1"]
    assert setup.made.start_rules("t1", 0) == StartRules(None)
