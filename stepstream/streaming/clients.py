"""librdkafka properties of each client, from the settings."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

from stepstream.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.settings import KafkaSettings, Settings

__all__ = [
    "CONSUMER_ONLY",
    "PRODUCER_ONLY",
    "client_properties",
    "consumer_properties",
    "explain_kafka_errors",
    "producer_properties",
    "state_consumer_properties",
]


CONSUMER_ONLY = ("fetch.", "queued.", "session.", "heartbeat.", "max.poll.", "check.crcs")
PRODUCER_ONLY = ("linger.", "batch.", "queue.buffering.", "compression.", "message.", "delivery.")
"""Beginnings of property names that one kind of client knows and the other warns of."""


def client_properties(kafka: KafkaSettings, not_for: tuple[str, ...] = ()) -> dict[str, Any]:
    """Properties that every client shares: brokers, identity, encryption, authentication.

    Parameters
    ----------
    kafka
        The settings; `kafka.properties` go to each client that knows them.
    not_for
        Beginnings of the names of properties to leave out.
    """
    optional: dict[str, Any] = {
        "sasl.mechanism": kafka.sasl_mechanism,
        "sasl.username": kafka.sasl_username,
        "sasl.password": kafka.sasl_password and kafka.sasl_password.get_secret_value(),
        "ssl.ca.location": kafka.ssl_ca_location and str(kafka.ssl_ca_location),
        "ssl.certificate.location": kafka.ssl_certificate_location
        and str(kafka.ssl_certificate_location),
        "ssl.key.location": kafka.ssl_key_location and str(kafka.ssl_key_location),
        "ssl.key.password": kafka.ssl_key_password and kafka.ssl_key_password.get_secret_value(),
    }
    return {
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": kafka.security_protocol,
        **{name: value for name, value in optional.items() if value is not None},
        **{name: value for name, value in kafka.properties.items() if not name.startswith(not_for)},
    }


@contextmanager
def explain_kafka_errors(doing: str) -> Iterator[None]:
    """Turn what the Kafka client raises into a `StreamError` that says what was being done."""
    try:
        yield
    except KafkaException as error:
        raise StreamError(f"{doing}: {error.args[0].str()}") from None


def consumer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the consumer of readings."""
    kafka = settings.kafka
    properties: dict[str, Any] = {
        # The default of 1000 ms stalls a consumer that drains its queue faster than that.
        "fetch.queue.backoff.ms": 5,
        # Events are wanted at once; batching happens in the loop's own linger.
        "fetch.wait.max.ms": 100,
        # What waits here is what a poll takes at most, and so bounds the memory of a backlog.
        "queued.max.messages.kbytes": 4_096,
        **client_properties(kafka, PRODUCER_ONLY),
        "group.id": kafka.group_id,
        "group.protocol": kafka.group_protocol,
        # The loop says where each partition starts; a position that is gone is an error.
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
    }
    if kafka.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
    return properties


def state_consumer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the consumer that reads step counts back; it joins no group."""
    properties = consumer_properties(settings)
    for name in ("group.protocol", "partition.assignment.strategy"):
        properties.pop(name, None)
    return {**properties, "group.protocol": "classic", "enable.partition.eof": True}


def producer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the producer of events and dead letters."""
    properties: dict[str, Any] = {
        "linger.ms": 0,
        # With the default of 100 ms, a transaction close behind another waits that long.
        "retry.backoff.ms": 10,
        "compression.type": "lz4",
        **client_properties(settings.kafka, CONSUMER_ONLY),
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
    }
    if settings.processing.guarantee == "exactly_once":
        properties["transactional.id"] = settings.kafka.effective_transactional_id()
        properties["transaction.timeout.ms"] = settings.kafka.transaction_timeout_ms
    return properties
