from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError

from stepstream.streaming.polls import group_by_partition, split_errors


@dataclass
class Polled:
    number: int
    failure: KafkaError | None = None
    name: str = "readings"

    def error(self) -> KafkaError | None:
        return self.failure

    def topic(self) -> str:
        return self.name

    def partition(self) -> int:
        return self.number


def test_errors_among_messages_are_told_apart_and_the_messages_kept() -> None:
    failure = KafkaError(KafkaError._TRANSPORT)
    polled: Any = [Polled(1), Polled(2, failure), Polled(1), Polled(2)]
    messages, errors = split_errors(polled)
    assert messages == [polled[0], polled[2], polled[3]]
    assert errors == [(polled[1], failure)]
    assert split_errors(polled[:1]) == (polled[:1], [])
    assert split_errors([]) == ([], [])


def test_messages_of_a_partition_stay_in_order_whatever_lies_between() -> None:
    polled: Any = [Polled(1), Polled(1, name="more"), Polled(1), Polled(2), Polled(1)]
    grouped = group_by_partition(polled, one_topic=False)
    assert grouped == {
        ("readings", 1): [polled[0], polled[2], polled[4]],
        ("more", 1): [polled[1]],
        ("readings", 2): [polled[3]],
    }
    assert not group_by_partition([], one_topic=True)
