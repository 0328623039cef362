from __future__ import annotations

import pytest

from stepstream.errors import StreamError
from stepstream.settings import KafkaSettings, Settings
from stepstream.streaming.clients import consumer_properties, producer_properties
from stepstream.streaming.consumer import Consumer
from tests.detection.builders import TransparentModel

SETTINGS = Settings(
    kafka=KafkaSettings(
        group_id="steps",
        sasl_password="hunter2",  # noqa: S106
        properties={
            "fetch.min.bytes": 5,
            "linger.ms": 7,
            "socket.keepalive.enable": True,
            "fetch.queue.backoff.ms": 9,
        },
    )
)


def test_each_property_goes_to_the_clients_that_know_it_and_beats_our_default() -> None:
    consumer, producer = consumer_properties(SETTINGS), producer_properties(SETTINGS)
    assert (consumer["fetch.min.bytes"], consumer["fetch.queue.backoff.ms"]) == (5, 9)
    assert producer["linger.ms"] == 7
    assert consumer["socket.keepalive.enable"] is producer["socket.keepalive.enable"] is True
    assert "linger.ms" not in consumer
    assert "fetch.min.bytes" not in producer


def test_a_property_that_librdkafka_does_not_know_is_named() -> None:
    kafka = KafkaSettings(properties={"fetch.min.bites": 5})
    with pytest.raises(StreamError, match=r"fetch\.min\.bites"):
        Consumer(Settings(kafka=kafka), TransparentModel())


def test_what_the_guarantee_rests_on_is_set() -> None:
    consumer, producer = consumer_properties(SETTINGS), producer_properties(SETTINGS)
    assert consumer["enable.auto.commit"] is consumer["enable.auto.offset.store"] is False
    assert "isolation.level" not in consumer
    assert producer["enable.idempotence"] is True
    assert producer["transactional.id"].startswith("steps-")
    assert producer["partitioner"] == "murmur2_random"
    assert consumer["sasl.password"] == producer["sasl.password"] == "hunter2"
