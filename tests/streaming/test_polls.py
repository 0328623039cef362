from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from confluent_kafka import KafkaError

from stepstream.settings import Settings
from stepstream.streaming.consumer import Consumer


@dataclass
class Polled:
    number: int
    failure: KafkaError | None = None

    def error(self) -> KafkaError | None:
        return self.failure

    def topic(self) -> str:
        return "readings"

    def partition(self) -> int:
        return self.number


def test_errors_among_messages_are_dealt_with_and_the_messages_kept() -> None:
    failure = KafkaError(KafkaError._TRANSPORT)
    polled = [Polled(1), Polled(2, failure), Polled(1), Polled(2)]
    seen: list[Any] = []
    loop = SimpleNamespace(
        _on_message_error=lambda _message, error: seen.append(error), _settings=Settings()
    )
    found = Consumer._by_partition(cast("Consumer", loop), cast("Any", polled))
    assert seen == [failure]
    assert {name: len(messages) for name, messages in found.items()} == {
        ("readings", 1): 2,
        ("readings", 2): 1,
    }
    only = cast("Any", [Polled(1, failure)])
    assert not Consumer._by_partition(cast("Consumer", loop), only)
