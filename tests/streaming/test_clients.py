from __future__ import annotations

from typing import Any, Literal

import pytest
from confluent_kafka import Consumer as KafkaConsumer

from stepstream.errors import StreamError
from stepstream.settings import KafkaSettings, Settings
from stepstream.streaming.clients import (
    consumer_properties,
    producer_properties,
    state_consumer_properties,
)
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


def test_membership_is_told_to_the_group_as_its_protocol_wants_it() -> None:
    kafka = KafkaSettings(
        transactional_id="steps-a",
        session_timeout_ms=7_000,
        heartbeat_interval_ms=300,
        max_poll_interval_ms=9_000,
    )
    expected = {
        "group.instance.id": "steps-a",
        "max.poll.interval.ms": 9_000,
        "session.timeout.ms": 7_000,
        "heartbeat.interval.ms": 300,
    }
    classic = consumer_properties(Settings(kafka=kafka))
    assert {name: classic.get(name) for name in expected} == expected
    newer = kafka.model_copy(update={"group_protocol": "consumer"})
    told = consumer_properties(Settings(kafka=newer))
    assert [name for name in expected if name in told] == ["max.poll.interval.ms"]
    # It joins no group, so it must not take a member's place there.
    assert "group.instance.id" not in state_consumer_properties(Settings(kafka=kafka))


def test_a_property_of_the_group_beats_the_setting_and_goes_to_no_producer() -> None:
    properties = {"session.timeout.ms": 8_000, "group.instance.id": "mine"}
    kafka = KafkaSettings(properties=properties)
    settings = Settings(kafka=kafka)
    consumer = consumer_properties(settings)
    assert {name: consumer[name] for name in properties} == properties
    assert not properties.keys() & producer_properties(settings).keys()


def test_what_the_guarantee_rests_on_is_set() -> None:
    consumer, producer = consumer_properties(SETTINGS), producer_properties(SETTINGS)
    assert consumer["enable.auto.commit"] is consumer["enable.auto.offset.store"] is False
    assert "isolation.level" not in consumer
    assert producer["enable.idempotence"] is True
    assert producer["transactional.id"].startswith("steps-")
    assert producer["partitioner"] == "murmur2_random"
    assert consumer["sasl.password"] == producer["sasl.password"] == "hunter2"


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.parametrize("properties", [{}, {"session.timeout.ms": 30_000}])
def test_the_client_accepts_the_timeouts_of_both_protocols(
    protocol: Literal["classic", "consumer"], properties: dict[str, Any]
) -> None:
    kafka = KafkaSettings(
        group_protocol=protocol,
        properties={"log_level": 0, **(properties if protocol == "classic" else {})},
    )
    made_with = Settings(kafka=kafka)
    for made in (consumer_properties(made_with), state_consumer_properties(made_with)):
        KafkaConsumer(made).close()
