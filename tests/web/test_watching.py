"""What a page gets of the device that it watches."""

from __future__ import annotations

import pytest

from stepstream.outputs import Minute, Outputs, make_encodings
from stepstream.settings import TopicSettings
from stepstream.streaming.outbox import Results
from stepstream.web.watching import Watch
from tests.web.builders import TOPIC, consumer_without_broker, settings

OTHER = "watches"


@pytest.mark.parametrize("topic", [TOPIC, OTHER, None])
def test_a_device_of_another_topic_with_the_same_id_is_not_watched(topic: str | None) -> None:
    made_with = settings(topics=TopicSettings(readings=[OTHER, TOPIC], minutes="step-minutes"))
    outputs = Outputs(made_with.topics, made_with.output, make_encodings(made_with), "walk-4.1")
    with consumer_without_broker(made_with) as consumer:
        watch = Watch(made_with.topics, consumer, "phone", topic)
        consumer.assignment.add([(OTHER, 0), (TOPIC, 0)])
        for partition in consumer.assignment.owned:
            partition.ledger.count("phone", 1, [1_000_000])
            minute = Minute("phone", 0, 0, 0, 5, 4_000_000)
            records = outputs.final(partition.topic, partition.number, [minute])
            watch.observe([Results(partition, records=list(records))])
    taken = watch.take()
    assert taken is not None
    (shown,) = taken["minutes"]
    assert shown["minute_id"].startswith(topic or OTHER)
