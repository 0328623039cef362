"""librdkafka properties of each client, from the settings."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from stepstream.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stepstream.settings import KafkaSettings, Settings

__all__ = [
    "ALWAYS_CONNECTED",
    "CONSUMER_ONLY",
    "PRODUCER_ONLY",
    "check_connection",
    "client_properties",
    "consumer_properties",
    "explain_denied",
    "explain_kafka_errors",
    "producer_properties",
    "state_consumer_properties",
]


CONSUMER_ONLY = (
    "fetch.", "queued.", "session.", "heartbeat.", "max.poll.", "check.crcs", "group.",
)  # fmt: skip
PRODUCER_ONLY = ("linger.", "batch.", "queue.buffering.", "compression.", "message.", "delivery.")
"""Beginnings of property names that one kind of client knows and the other warns of."""

DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
"""Errors of a right that is missing, and what it is a right to."""
REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001 - their public names
"""Errors of a connection that trying again doesn't mend."""
CONNECT_TIMEOUT_S = 30.0
CONNECT_CHECK_S = 1.0


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
        text = error.args[0].str()
        if "ssl.key.location failed" in text:
            text += "; the file holds no PEM key, or kafka.ssl_key_password is not its password"
        raise StreamError(f"{doing}: {text}") from None


def explain_denied(error: KafkaError, needed: Mapping[str, str]) -> StreamError | None:
    """What to raise if the brokers refuse a right; nothing for any other error.

    Parameters
    ----------
    error
        What a client says.
    needed
        For "topic", "group" and "transactional id": the rights and names that were asked for.
    """
    kind = DENIED.get(error.code())
    if kind is None:
        return None
    rights = f"; needed: {needed[kind]}" if kind in needed else ""
    return StreamError(f"{error.str()}{rights} (docs/security.md lists all rights)")


def check_connection(kafka: KafkaSettings) -> None:
    """Connect once, with a client of its own, to end early and with the cause.

    Raises
    ------
    StreamError
        A setting of the client is wrong, the brokers refuse it or it refuses them, or none answers
        in time.
    """
    causes: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its public name
            causes[:] = [error]

    properties: dict[str, Any] = {
        **client_properties(kafka, CONSUMER_ONLY + PRODUCER_ONLY),
        "error_cb": note,
        "log_level": 0,
    }
    with explain_kafka_errors("kafka settings"):
        admin = AdminClient(properties)
    deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
    where = f"can't connect to {kafka.bootstrap_servers}"
    while True:
        try:
            admin.list_topics(timeout=CONNECT_CHECK_S)
        except KafkaException as error:
            admin.poll(0)
            for cause in causes:
                # A broker that turns a client's certificate down says so in an alert of TLS.
                if cause.code() in REFUSED or "SSL alert" in cause.str():
                    raise StreamError(f"{where}: {cause.str()}") from None
            if time.monotonic() > deadline_s:
                cause = causes[0] if causes else error.args[0]
                hint = f"is kafka.security_protocol {kafka.security_protocol} right?"
                raise StreamError(f"{where}: {cause.str()}; {hint}") from None
        else:
            return


STATISTICS_MS = 1_000
"""How often clients say how they are doing."""
ALWAYS_CONNECTED = {"enable.sparse.connections": False}
"""For clients that ask coordinators: librdkafka (2.16) waits without an end, whatever the timeout,
for one whose connection was lost if nothing else makes it connect again
(https://github.com/confluentinc/librdkafka/issues/5456)."""


def consumer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the consumer of readings."""
    kafka = settings.kafka
    properties: dict[str, Any] = {
        # The default of 1000 ms stalls a consumer that drains its queue faster than that.
        "fetch.queue.backoff.ms": 5,
        # Events are wanted at once; batching happens in the loop's own linger.
        "fetch.wait.max.ms": 100,
        # What waits here is what a poll takes at most; with the size of a partition's part of a
        # fetch it bounds the memory of a backlog.
        "queued.max.messages.kbytes": 1_024,
        "fetch.message.max.bytes": 128 << 10,
        "statistics.interval.ms": STATISTICS_MS,
        "max.poll.interval.ms": kafka.max_poll_interval_ms,
        **_membership(kafka),
        **client_properties(kafka, PRODUCER_ONLY),
        "group.id": kafka.group_id,
        "group.protocol": kafka.group_protocol,
        # The loop says where each partition starts; a position that is gone is an error.
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Says where a partition ends that has transaction markers behind its last message.
        "enable.partition.eof": True,
    }
    if kafka.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
    return properties


def _membership(kafka: KafkaSettings) -> dict[str, Any]:
    """How the group knows a consumer, and when it misses one."""
    properties: dict[str, Any] = {}
    if kafka.static_membership:
        properties["group.instance.id"] = kafka.effective_transactional_id()
    if kafka.group_protocol == "classic":
        # A rebalance is heard of in a heartbeat, and a hand-over takes two of them.
        properties["heartbeat.interval.ms"] = kafka.heartbeat_interval_ms
        properties["session.timeout.ms"] = kafka.session_timeout_ms
    return properties


def state_consumer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the consumer that reads step counts back; it joins no group."""
    properties = consumer_properties(settings)
    for name in ("group.protocol", "group.instance.id", "partition.assignment.strategy"):
        properties.pop(name, None)
    properties["statistics.interval.ms"] = 0
    # It has nothing to do until partitions change hands, and then no time to connect.
    return {**ALWAYS_CONNECTED, **properties, "group.protocol": "classic"}


def producer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the producer of events and dead letters."""
    properties: dict[str, Any] = {
        "linger.ms": 0,
        **ALWAYS_CONNECTED,
        # With the default of 100 ms, a transaction close behind another waits that long.
        "retry.backoff.ms": 10,
        "compression.type": "lz4",
        "statistics.interval.ms": STATISTICS_MS,
        **client_properties(settings.kafka, CONSUMER_ONLY),
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
    }
    if settings.processing.guarantee == "exactly_once":
        properties["transactional.id"] = settings.kafka.effective_transactional_id()
        properties["transaction.timeout.ms"] = settings.kafka.transaction_timeout_ms
    return properties
