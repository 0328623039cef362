from __future__ import annotations

import pytest

from stepstream.streaming.durability import TopicReport, warnings_of


@pytest.mark.parametrize(
    ("replicas", "in_sync", "promise"),
    [
        (1, 1, "1 replica: what its broker loses is lost"),
        (3, 0, "3 replicas"),
        (3, 2, "is on 2 or more brokers, and writing goes on while 1 are away"),
        (2, 3, "nothing can be written"),
    ],
)
def test_replicas_say_what_becomes_of_messages_when_brokers_fail(
    replicas: int, in_sync: int, promise: str
) -> None:
    assert TopicReport("events", replicas, in_sync).promise.endswith(promise)


def test_topics_are_warned_of_that_break_the_promise_and_no_others() -> None:
    reports = [
        TopicReport("good", 3, 2),
        TopicReport("__transaction_state", 3, 0),
        TopicReport("single", 1, 1),
        TopicReport("alone", 1, 1),
        TopicReport("loose", 3, 1),
        TopicReport("stiff", 2, 2),
        TopicReport("closed", 2, 3),
    ]
    named = [text.partition(": ")[0] for text in warnings_of(reports)]
    assert named == ["single, alone", "loose", "stiff", "closed"]
    assert warnings_of(reports[:2]) == []
