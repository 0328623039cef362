"""Passwords and certificates that change while clients live: what a client takes, and what not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stepstream.settings import KafkaSettings
from stepstream.streaming.clients import client_properties
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.secure_broker import KEY_PASSWORD
from tests.kafka.test_run import walk
from tests.kafka.test_security import RUN_RIGHTS, as_admin, named

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.secure_broker import SecureBroker

FIRST = "first-zB4nL7wQ"
SECOND = "second-hT9cR2vX"


def test_a_password_file_that_changes_is_taken_up_by_all_clients(
    secure_broker: SecureBroker, tmp_path: Path
) -> None:
    user = "rotated"
    secure_broker.set_password(user, FIRST)
    topics = TopicSet.create(secure_broker.sasl, 1, as_admin(secure_broker))
    secure_broker.grant(user, named(RUN_RIGHTS, topics))
    file = tmp_path / "password"
    file.write_text(f"{FIRST}\n")
    more = {
        "STEPSTREAM_KAFKA__SECURITY_PROTOCOL": "sasl_ssl",
        "STEPSTREAM_KAFKA__SSL_CA_LOCATION": str(secure_broker.certificates.authority),
        "STEPSTREAM_KAFKA__SASL_MECHANISM": "SCRAM-SHA-256",
        "STEPSTREAM_KAFKA__SASL_USERNAME": user,
        "STEPSTREAM_KAFKA__SASL_PASSWORD_FILE": str(file),
    }
    walked = walk(1, 5.0, batch=20)
    with RunProcess(topics, tmp_path, **more) as run:
        topics.produce(walked[:5])
        topics.wait_consumed()
        secure_broker.set_password(user, SECOND)
        # The broker asks for it again, and refuses the first one.
        run.wait_for_log("invalid credentials")
        file.write_text(f"{SECOND}\n")
        run.wait_for_log("new kafka.sasl_password")
        topics.produce(walked[5:])
        topics.wait_consumed()
        assert run.terminate() == 0
    assert topics.read_events()
    log = run.log.read_text()
    assert FIRST not in log
    assert SECOND not in log


def test_a_client_keeps_the_certificate_that_it_was_made_with(
    secure_broker: SecureBroker, tmp_path: Path
) -> None:
    made = secure_broker.certificates
    files = {"ssl_certificate_location": "client", "ssl_key_location": "client_key"}

    def put(certificate: Path, key: Path) -> None:
        (tmp_path / "client").write_bytes(certificate.read_bytes())
        (tmp_path / "client_key").write_bytes(key.read_bytes())

    put(made.client, made.client_key)
    kafka = KafkaSettings(
        bootstrap_servers=secure_broker.tls,
        security_protocol="ssl",
        ssl_ca_location=made.authority,
        ssl_key_password=KEY_PASSWORD,
        **{name: tmp_path / file for name, file in files.items()},
    )
    statistics: dict[str, Any] = {}
    watched: dict[str, Any] = {
        "connections.max.idle.ms": 1_000,
        "statistics.interval.ms": 200,
        "stats_cb": lambda text: statistics.update(json.loads(text)),
        "log_level": 0,
    }
    client = AdminClient({**client_properties(kafka), **watched})

    def has_connection() -> bool:
        client.poll(0.1)
        return any(one["state"] == "UP" for one in statistics.get("brokers", {}).values())

    assert client.list_topics(timeout=15)
    wait_until("a connection", has_connection)
    put(made.stranger, made.stranger_key)
    wait_until("no connection, after a second without requests", lambda: not has_connection())
    # It connects again, with the certificate that it had at first. A new client has the other one.
    assert client.list_topics(timeout=15)
    other = AdminClient({**client_properties(kafka), "log_level": 0})
    with pytest.raises(KafkaException):
        other.list_topics(timeout=3)
