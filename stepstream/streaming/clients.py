"""librdkafka properties of each client, from the settings."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from stepstream.errors import StreamError
from stepstream.streaming.msk import AWS_MSK_IAM, msk_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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
    "patiently",
    "producer_properties",
    "reader_properties",
    "refresh_interval_s",
    "repeat",
    "rights_to_consume",
    "state_consumer_properties",
    "unwrapped_kafka_errors",
]


CONSUMER_ONLY = (
    "fetch.", "queued.", "session.", "heartbeat.", "max.poll.", "check.crcs", "group.",
)  # fmt: skip
PRODUCER_ONLY = ("linger.", "batch.", "queue.buffering.", "compression.", "message.", "delivery.")
"""Beginnings of property names that one kind of client knows; the other kind logs a warning."""

DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "cluster",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "transactional id",
}
"""Errors of a right that is missing, and what it is a right to."""
REFUSED = {KafkaError._AUTHENTICATION, KafkaError._SSL}  # noqa: SLF001 - their public names
"""Errors of a connection that another attempt doesn't solve."""
CONNECT_TIMEOUT_S = 30.0
REPEAT_S = 30.0
READY_S, PAUSE_S = 30.0, 0.1
"""How long a call is repeated while Kafka isn't ready, and the pause before the next."""
NOT_READY = {
    KafkaError._TIMED_OUT,  # noqa: SLF001 - its public name
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
CONNECT_CHECK_S = 1.0
T = TypeVar("T")


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
        "ssl.ca.location": kafka.ssl_ca_location and str(kafka.ssl_ca_location),
        "ssl.certificate.location": kafka.ssl_certificate_location
        and str(kafka.ssl_certificate_location),
        "ssl.key.location": kafka.ssl_key_location and str(kafka.ssl_key_location),
        "ssl.key.password": kafka.ssl_key_password and kafka.ssl_key_password.get_secret_value(),
    }
    return {
        # With the default, librdkafka (2.16) forgets all brokers while none can be reached, and a
        # transaction that goes on afterwards may wait for a forgotten one for ever
        # (https://github.com/confluentinc/librdkafka/issues/5511).
        "metadata.recovery.strategy": "none",
        # A consumer waits for nothing longer than this after brokers have come back.
        "reconnect.backoff.max.ms": 1_000,
        "bootstrap.servers": kafka.bootstrap_servers,
        "client.id": kafka.client_id,
        "security.protocol": kafka.security_protocol,
        **_authentication(kafka),
        **{name: value for name, value in optional.items() if value is not None},
        **{name: value for name, value in kafka.properties.items() if not name.startswith(not_for)},
    }


def _authentication(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties of SASL; without any if it isn't used."""
    if kafka.sasl_mechanism == AWS_MSK_IAM:
        return msk_properties(kafka)
    password = None if kafka.sasl_password is None else kafka.sasl_password.get_secret_value()
    properties = {"sasl.mechanism": kafka.sasl_mechanism}
    if kafka.sasl_mechanism == "OAUTHBEARER" and kafka.sasl_username is not None:
        properties |= {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.client.id": kafka.sasl_username,
            "sasl.oauthbearer.client.secret": password,
        }
    else:
        properties |= {"sasl.username": kafka.sasl_username, "sasl.password": password}
    return {name: value for name, value in properties.items() if value is not None}


@contextmanager
def unwrapped_kafka_errors() -> Iterator[None]:
    """Raise a `KafkaException` as itself.

    The client raises fatal errors where it serves events, in a poll or a flush. If it has a line to
    log then, what is raised is a `SystemError` with the exception as its cause.
    """
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


@contextmanager
def explain_kafka_errors(doing: str) -> Iterator[None]:
    """Turn errors of the Kafka client into a `StreamError` that says what failed."""
    try:
        with unwrapped_kafka_errors():
            yield
    except KafkaException as error:
        text = error.args[0].str()
        if "ssl.key.location failed" in text:
            text += "; the file holds no PEM key, or kafka.ssl_key_password is not its password"
        raise StreamError(f"{doing}: {text}") from None


def patiently(call: Callable[[], T]) -> T:
    """The result of a call; it is repeated while a broker or a new topic isn't ready yet."""
    deadline_s = time.monotonic() + READY_S
    while True:
        try:
            return call()
        except KafkaException as error:
            if error.args[0].code() not in NOT_READY or time.monotonic() > deadline_s:
                raise
        time.sleep(PAUSE_S)


def repeat(call: Callable[[float], None]) -> None:
    """Call again as long as Kafka says that the call can be repeated, within bounds."""
    deadline_s = time.monotonic() + 2 * REPEAT_S
    while True:
        try:
            return call(REPEAT_S)
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline_s:
                raise


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


def rights_to_consume(settings: Settings) -> dict[str, str]:
    """The rights that reading needs, in the form that `explain_denied` takes."""
    topics = settings.topics
    return {
        "topic": f"READ on {', '.join([*topics.readings, topics.state])}",
        "group": f"READ on {settings.kafka.group_id}",
    }


def check_connection(kafka: KafkaSettings) -> None:
    """Connect once, with a client of its own, to end early and with the cause.

    Raises
    ------
    StreamError
        A setting of the client is wrong, the client and the brokers don't accept each other, or no
        broker answers in time.
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
                # A broker that refuses a client's certificate says so in an alert of TLS.
                if cause.code() in REFUSED or "SSL alert" in cause.str():
                    raise StreamError(f"{where}: {cause.str()}") from None
            if time.monotonic() > deadline_s:
                cause = causes[0] if causes else error.args[0]
                hint = f"is kafka.security_protocol {kafka.security_protocol} right?"
                raise StreamError(f"{where}: {cause.str()}; {hint}") from None
        else:
            return


STATISTICS_MS = 1_000
"""How often clients give their statistics."""
ALWAYS_CONNECTED = {"enable.sparse.connections": False}
"""For clients that ask coordinators. If the connection to a coordinator is lost, librdkafka (2.16)
ignores the timeout of a call and waits until something else connects it again, perhaps forever
(https://github.com/confluentinc/librdkafka/issues/5456)."""


REFRESH_INTERVAL = "topic.metadata.refresh.interval.ms"
REFRESH_INTERVAL_MS = 10_000
"""How often a consumer looks for new topics and partitions: as long as their first readings may
wait. The client's default is five minutes. Each look asks for all topics of the cluster."""


def refresh_interval_s(settings: Settings) -> float:
    """Seconds between two looks at the topics; the property says it for the client, too."""
    given_ms = float(settings.kafka.properties.get(REFRESH_INTERVAL, REFRESH_INTERVAL_MS))
    # Negative values turn the client's own looks off.
    return max(1.0, (given_ms if given_ms > 0 else REFRESH_INTERVAL_MS) / 1000)


def consumer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the consumer of readings."""
    kafka = settings.kafka
    properties: dict[str, Any] = {
        # With the default of 1000 ms, a consumer waits if it drains its queue faster than that.
        "fetch.queue.backoff.ms": 5,
        # Events must be published quickly; the loop's own linger makes batches. And a partition
        # that starts waits behind such a fetch twice, which is part of each hand-over.
        "fetch.wait.max.ms": 50,
        # A poll can't consume more than waits here. Together with the size of a partition's part
        # of a fetch, this limits the memory that a backlog needs.
        "queued.max.messages.kbytes": 1_024,
        "fetch.message.max.bytes": 128 << 10,
        "statistics.interval.ms": STATISTICS_MS,
        REFRESH_INTERVAL: REFRESH_INTERVAL_MS,
        "max.poll.interval.ms": kafka.max_poll_interval_ms,
        **_membership(kafka),
        **client_properties(kafka, PRODUCER_ONLY),
        "group.id": kafka.group_id,
        "group.protocol": kafka.group_protocol,
        # The loop sets the start of each partition; an offset that doesn't exist is an error.
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # Gives the end of a partition, also if transaction markers are behind its last message.
        "enable.partition.eof": True,
    }
    if kafka.group_protocol == "classic":
        properties["partition.assignment.strategy"] = "cooperative-sticky"
        # The client refuses a session timeout that is longer, which older settings may ask for.
        longest_ms = max(properties["max.poll.interval.ms"], properties["session.timeout.ms"])
        properties["max.poll.interval.ms"] = longest_ms
    return properties


def _membership(kafka: KafkaSettings) -> dict[str, Any]:
    """How the group knows a consumer, and when it misses one."""
    properties: dict[str, Any] = {}
    if kafka.group_protocol == "classic":
        # Under the newer protocol, a static member that was killed can't come back before its
        # session is over.
        properties["group.instance.id"] = kafka.effective_transactional_id()
        # A consumer learns of a rebalance by a heartbeat; a partition that moves needs two of them.
        properties["heartbeat.interval.ms"] = kafka.heartbeat_interval_ms
        properties["session.timeout.ms"] = kafka.session_timeout_ms
    return properties


MEMBERSHIP = (
    "group.protocol",
    "group.instance.id",
    "partition.assignment.strategy",
    "session.timeout.ms",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
)
"""What only a member of a group needs."""


def state_consumer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the consumer that reads step counts; it joins no group."""
    properties = consumer_properties(settings)
    for name in MEMBERSHIP:
        properties.pop(name, None)
    properties["statistics.interval.ms"] = 0
    # It reads only while partitions wait for it.
    properties["fetch.wait.max.ms"] = 10
    # It has nothing to do until a partition is assigned, and then it must be connected already.
    return {**ALWAYS_CONNECTED, **properties, "group.protocol": "classic"}


def reader_properties(kafka: KafkaSettings) -> dict[str, Any]:
    """Properties of a consumer in no group: it is given its partitions, and commits nothing."""
    return {
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 16_384,
        **client_properties(kafka, PRODUCER_ONLY),
        # Required by the client; nothing joins it or commits to it.
        "group.id": kafka.group_id,
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
    }


def producer_properties(settings: Settings) -> dict[str, Any]:
    """Properties of the producer of events and dead letters."""
    properties: dict[str, Any] = {
        "linger.ms": 0,
        **ALWAYS_CONNECTED,
        # With the default of 100 ms, a transaction that follows another at once waits for 100 ms.
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
