"""TLS, authentication, access control and secrets, on a broker that asks for all of them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.streaming.topics import create_topics
from tests.conftest import ROOT
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.secure_broker import CERTIFIED, KEY_PASSWORD, PASSWORDS
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.secure_broker import Right, SecureBroker

MECHANISMS = {
    "PLAIN": "plain",
    "SCRAM-SHA-512": "scram",
    "OAUTHBEARER": "bearer",
    "mutual TLS": CERTIFIED,
}
"""Ways to authenticate, and as whom."""
REFUSED_WITHIN_S = 25.0
"""Less than the time that brokers have to answer at all."""

RUN_RIGHTS: tuple[Right, ...] = (
    ("topic", "readings", "READ"),
    ("topic", "readings", "DESCRIBE_CONFIGS"),
    ("topic", "events", "WRITE"),
    ("topic", "events", "DESCRIBE_CONFIGS"),
    ("topic", "dead_letters", "WRITE"),
    ("topic", "dead_letters", "DESCRIBE_CONFIGS"),
    ("topic", "state", "READ"),
    ("topic", "state", "WRITE"),
    ("topic", "state", "DESCRIBE_CONFIGS"),
    ("group", "group", "READ"),
    ("transactional_id", "transactional_id", "WRITE"),
)
"""All that `stepstream run` needs; READ and WRITE include DESCRIBE."""
HOLD_RIGHT: Right = ("group", "release_group", "DESCRIBE")
"""What it needs to let go of a held partition."""
RELEASE_RIGHTS: tuple[Right, ...] = (
    ("topic", "readings", "READ"),
    ("group", "group", "DESCRIBE"),
    ("group", "release_group", "READ"),
)
"""All that `stepstream release-partition` needs."""
TOPICS_RIGHTS: tuple[Right, ...] = tuple(
    ("topic", name, operation)
    for name in ("readings", "events", "dead_letters", "state")
    for operation in ("CREATE", "DESCRIBE", "DESCRIBE_CONFIGS")
)
"""All that `stepstream topics` needs."""


@pytest.fixture(scope="session")
def broker(secure_broker: SecureBroker) -> SecureBroker:
    return secure_broker


def as_admin(broker: SecureBroker) -> dict[str, Any]:
    return {
        "security_protocol": "sasl_ssl",
        "ssl_ca_location": broker.certificates.authority,
        "sasl_mechanism": "PLAIN",
        "sasl_username": "admin",
        "sasl_password": PASSWORDS["admin"],
    }


@pytest.fixture(scope="session")
def filled(broker: SecureBroker) -> TopicSet:
    """Topics with steps and a message that can't be read; one group's step counts are written."""
    topics = TopicSet.create(broker.sasl, 1, as_admin(broker))
    topics.produce([*walk(1, 5.0, batch=20), (b"device-0", b"not json")])
    return topics


def named(rights: tuple[Right, ...], topics: TopicSet) -> list[Right]:
    """Rights to the topics, the group and the transactional id of a test."""
    names = {
        **vars(topics),
        "transactional_id": f"{topics.group}-run",
        "release_group": f"{topics.group}.release-partition",
    }
    return [(kind, names[name], operation) for kind, name, operation in rights]


def environment(broker: SecureBroker, mechanism: str) -> dict[str, str]:
    if mechanism == "mutual TLS":
        return broker.tls_environment()
    return broker.sasl_environment(mechanism, MECHANISMS[mechanism])


def call(
    topics: TopicSet, folder: Path, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself; what it writes comes as ``stdout``."""
    return subprocess.run(
        [sys.executable, "-m", "stepstream", *arguments],
        env={**os.environ, **topics.environment(), **more},
        cwd=folder,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def wait_for_end(run: RunProcess, deadline_s: float = REFUSED_WITHIN_S) -> str:
    """Wait until a process has ended by itself, with exit code 1; returns its last line."""
    wait_until("the end of the process", lambda: not run.is_alive, deadline_s)
    log = run.log.read_text()
    assert run.terminate() == 1, log
    assert "Traceback" not in log
    return next(line for line in log.splitlines() if "ERROR   stepstream.commands.run: " in line)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_topics_are_created_and_readings_processed(
    broker: SecureBroker, tmp_path: Path, mechanism: str
) -> None:
    topics = TopicSet.named(broker.sasl, 1, as_admin(broker))
    more = environment(broker, mechanism)
    broker.grant(MECHANISMS[mechanism], named(TOPICS_RIGHTS, topics))
    made = call(topics, tmp_path, "topics", "--topics.partitions", "1", **more)
    assert (made.returncode, made.stdout.count(": created")) == (0, 4), made.stdout
    broker.grant(MECHANISMS[mechanism], named(RUN_RIGHTS, topics))
    topics.produce([*walk(1, 5.0, batch=20), (b"device-0", b"not json")])
    with RunProcess(topics, tmp_path, **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert topics.read_events()
    assert len(topics.read(topics.dead_letters)) == 1


@dataclass(frozen=True)
class Refusal:
    """A connection that is refused.

    Attributes
    ----------
    mechanism
        How it would have been.
    wrong
        What is set otherwise; a file by the name of a certificate.
    cause
        A part of the message.
    command
        Which command ends so.
    """

    mechanism: str
    wrong: dict[str, str]
    cause: str
    command: str = "run"


WRONG_PASSWORD = "wrong-tB2xJ8qM"  # noqa: S105 - it opens nothing
REFUSALS = {
    "plain password": Refusal(
        "PLAIN", {"SASL_PASSWORD": WRONG_PASSWORD}, "Invalid username or password"
    ),
    "scram password": Refusal(
        "SCRAM-SHA-512", {"SASL_PASSWORD": WRONG_PASSWORD}, "invalid credentials"
    ),
    "password of topics": Refusal(
        "PLAIN", {"SASL_PASSWORD": WRONG_PASSWORD}, "Invalid username or password", "topics"
    ),
    "authority": Refusal(
        "PLAIN", {"SSL_CA_LOCATION": "other_authority"}, "certificate verify failed"
    ),
    "host name": Refusal("PLAIN", {"BOOTSTRAP_SERVERS": "localhost"}, "certificate verify failed"),
    "client certificate": Refusal(
        "mutual TLS",
        {"SSL_CERTIFICATE_LOCATION": "stranger", "SSL_KEY_LOCATION": "stranger_key"},
        "certificate",
    ),
    "no client certificate": Refusal("PLAIN", {"SECURITY_PROTOCOL": "ssl"}, "SSL alert"),
    "key password": Refusal(
        "mutual TLS", {"SSL_KEY_PASSWORD": WRONG_PASSWORD}, "kafka.ssl_key_password"
    ),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refused_connection_ends_the_process_with_its_cause(
    broker: SecureBroker, tmp_path: Path, refusal: Refusal
) -> None:
    command = refusal.command
    topics = TopicSet.named(broker.sasl, 1)
    more = environment(broker, refusal.mechanism)
    for name, value in refusal.wrong.items():
        file = getattr(broker.certificates, value, value)
        more[f"STEPSTREAM_KAFKA__{name}"] = str(file)
    if refusal.wrong.get("SECURITY_PROTOCOL") == "ssl":
        more["STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = broker.tls
    if "BOOTSTRAP_SERVERS" in refusal.wrong:
        # The broker's certificate has only the address.
        named_host = broker.sasl.replace("127.0.0.1", "localhost")
        more["STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS"] = named_host
    ended = call(topics, tmp_path, command, **more)
    assert ended.returncode == 1, ended.stdout
    assert refusal.cause in ended.stdout.splitlines()[-1]
    assert "Traceback" not in ended.stdout
    for secret in (*PASSWORDS.values(), KEY_PASSWORD, WRONG_PASSWORD):
        assert secret not in ended.stdout


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_the_rights_listed_are_enough(
    broker: SecureBroker, filled: TopicSet, tmp_path: Path, guarantee: str
) -> None:
    user = f"enough-{guarantee}"
    topics = replace(filled, group=user)
    rights = named(RUN_RIGHTS, topics)
    if guarantee == "at_least_once":
        rights = [right for right in rights if right[0] != "transactional_id"]
    broker.grant(user, rights)
    more = broker.sasl_environment("OAUTHBEARER", user)
    more["STEPSTREAM_PROCESSING__GUARANTEE"] = guarantee
    with RunProcess(topics, tmp_path, **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert broker.rights(user) == set(rights)


@pytest.mark.parametrize("removed", RUN_RIGHTS, ids="-".join)
def test_a_missing_right_ends_the_process_and_is_named(
    broker: SecureBroker, filled: TopicSet, tmp_path: Path, removed: Right
) -> None:
    user = "without-" + "-".join(removed).lower()
    topics = replace(filled, group=user)
    kind, name, operation = named((removed,), topics)[0]
    rights = [right for right in named(RUN_RIGHTS, topics) if right != (kind, name, operation)]
    # DESCRIBE goes with READ and WRITE; what is tested is the one right.
    broker.grant(user, {*rights, (kind, name, "DESCRIBE")})
    with RunProcess(topics, tmp_path, **broker.sasl_environment("OAUTHBEARER", user)) as run:
        last = wait_for_end(run)
    assert name in last
    assert re.search(rf"\b{operation}\b", last)


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_a_right_taken_away_ends_a_running_process(
    broker: SecureBroker, tmp_path: Path, guarantee: str
) -> None:
    user = f"revoked-{guarantee}"
    topics = replace(TopicSet.create(broker.sasl, 1, as_admin(broker)), group=user)
    broker.grant(user, named(RUN_RIGHTS, topics))
    more = broker.sasl_environment("OAUTHBEARER", user)
    more["STEPSTREAM_PROCESSING__GUARANTEE"] = guarantee
    with RunProcess(topics, tmp_path, **more) as run:
        run.wait_for_log("partition started")
        broker.withdraw(user, ("topic", topics.dead_letters, "WRITE"))
        topics.produce([(b"device-0", b"not json")])
        last = wait_for_end(run)
    assert f"WRITE on {topics.events}, {topics.dead_letters}" in last
    assert topics.committed().get(0, 0) == 0


def test_a_held_partition_is_released_with_the_rights_listed(
    broker: SecureBroker, tmp_path: Path
) -> None:
    topics = replace(TopicSet.create(broker.sasl, 1, as_admin(broker)), group="holds")
    broker.grant("holds", named(RUN_RIGHTS, topics))
    broker.grant("releases", named(RELEASE_RIGHTS, topics))
    topics.produce([(b"device-0", b"{")] * 300)
    more = broker.sasl_environment("OAUTHBEARER", "holds")
    more |= {
        "STEPSTREAM_PROCESSING__DEAD_LETTER_STREAK": "100",
        "STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "50",
    }
    with RunProcess(topics, tmp_path, **more) as run:
        run.wait_for_log("DESCRIBE on holds.release-partition")
        held_at = topics.committed()[0]
        assert 100 <= held_at < 300
        broker.grant("holds", named((HOLD_RIGHT,), topics))
        command = ("release-partition", topics.readings, "0")
        done = call(
            topics, tmp_path, *command, **broker.sasl_environment("OAUTHBEARER", "releases")
        )
        assert (done.returncode, "released: " in done.stdout) == (0, True), done.stdout
        wait_until("more of it", lambda: topics.committed()[0] > held_at)
        assert run.terminate() == 0


def test_topics_that_exist_need_no_right_to_create_them(
    broker: SecureBroker, filled: TopicSet, tmp_path: Path
) -> None:
    more = broker.sasl_environment("OAUTHBEARER", "looks")
    denied = call(filled, tmp_path, "topics", **more)
    assert denied.returncode == 1
    assert re.search(r"topic \S+: this user may neither DESCRIBE nor CREATE it", denied.stdout)
    rights = [right for right in named(TOPICS_RIGHTS, filled) if right[2] != "CREATE"]
    broker.grant("looks", rights)
    seen = call(filled, tmp_path, "topics", **more)
    assert (seen.returncode, seen.stdout.count(": exists")) == (0, 4), seen.stdout


def test_tail_needs_the_right_to_read_a_topic_and_none_to_a_group(
    broker: SecureBroker, filled: TopicSet, tmp_path: Path
) -> None:
    # What is in the topic doesn't matter; the readings are there.
    topics = replace(filled, events=filled.readings, readings="others")
    more = broker.sasl_environment("OAUTHBEARER", "tails")
    options = ("tail", "--from", "beginning", "--max", "1", "--json")
    unseen = call(topics, tmp_path, *options, **more)
    assert unseen.returncode == 1
    assert f"no topic {topics.events} that this user may read" in unseen.stdout
    broker.grant("tails", [("topic", topics.events, "DESCRIBE")])
    denied = call(topics, tmp_path, *options, **more)
    assert denied.returncode == 1
    assert f"needed: READ on {topics.events}" in denied.stdout.splitlines()[-1]
    broker.grant("tails", [("topic", topics.events, "READ")])
    seen = call(topics, tmp_path, *options, **more)
    assert seen.returncode == 0, seen.stdout
    assert json.loads(seen.stdout)["topic"] == topics.events


@pytest.mark.parametrize(
    ("mechanism", "source"), [("SCRAM-SHA-512", "environment"), ("mutual TLS", "file")]
)
def test_secrets_are_written_nowhere(
    broker: SecureBroker, filled: TopicSet, tmp_path: Path, mechanism: str, source: str
) -> None:
    topics = replace(filled, group=f"secrets-{MECHANISMS[mechanism]}-{source}")
    broker.grant(MECHANISMS[mechanism], named(RUN_RIGHTS, topics))
    more = environment(broker, mechanism)
    if source == "file":
        for name in ("SASL_PASSWORD", "SSL_KEY_PASSWORD"):
            secret = more.pop(f"STEPSTREAM_KAFKA__{name}", None)
            if secret is not None:
                file = tmp_path / name.lower()
                file.write_text(f"{secret}\n")
                more[f"STEPSTREAM_KAFKA__{name}_FILE"] = str(file)
    port = free_port()
    more |= {
        "STEPSTREAM_LOGGING__LEVEL": "debug",
        "STEPSTREAM_HTTP__PORT": str(port),
        "STEPSTREAM_KAFKA__PROPERTIES": json.dumps({"debug": "all"}),
    }
    with RunProcess(topics, tmp_path, **more) as run:
        run.wait_for_log("partition started")
        topics.wait_consumed()
        written = [fetch(port, path)[1] for path in ("/metrics", "/livez", "/readyz")]
        assert run.terminate() == 0
    written += [run.log.read_text(), call(topics, tmp_path, "topics", **more).stdout]
    written.append(call(topics, tmp_path, "run", "--help", **more).stdout)
    assert "SASL" in written[3] or "SSL" in written[3]
    for text in written:
        assert text
        for secret in (*PASSWORDS.values(), KEY_PASSWORD):
            assert secret not in text


SECRET = "secret-wH4nC9dV"  # noqa: S105 - it opens nothing
SECRET_PROPERTIES: dict[str, dict[str, Any]] = {
    "bearer config": {
        "enable.sasl.oauthbearer.unsecure.jwt": True,
        "sasl.oauthbearer.config": f"principal=me key={SECRET}",
    },
    "key": {"ssl.key.pem": f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----"},
    "client secret": {"sasl.oauthbearer.client.secret": SECRET, "no.such.property": 1},
    "wrong type": {"sasl.oauthbearer.client.secret": [SECRET]},
    "reserved": {"sasl.password": SECRET},
}


@pytest.mark.parametrize("properties", SECRET_PROPERTIES.values(), ids=SECRET_PROPERTIES)
def test_secret_properties_are_not_quoted_in_errors(
    broker: SecureBroker, tmp_path: Path, properties: dict[str, Any]
) -> None:
    topics = TopicSet.named(broker.sasl, 1)
    more = broker.sasl_environment("OAUTHBEARER", "me")
    more["STEPSTREAM_KAFKA__PROPERTIES"] = json.dumps(properties)
    ended = call(topics, tmp_path, "run", **more)
    assert ended.returncode in {1, 2}
    assert "ERROR   stepstream.commands.run: " in ended.stdout
    assert SECRET not in ended.stdout


def acl_commands() -> list[list[str]]:
    """The commands of the docs that grant rights."""
    text = (ROOT / "docs" / "security.md").read_text().replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith("kafka-acls.sh ")]


# Seven starts of Java, one after the other.
@pytest.mark.timeout(300)
def test_the_commands_of_the_docs_grant_exactly_these_rights(
    broker: SecureBroker, tmp_path: Path
) -> None:
    config = tmp_path / "admin.properties"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule"
    config.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nssl.truststore.type=PEM\n"
        f"ssl.truststore.location={broker.certificates.authority}\n"
        f'sasl.jaas.config={login} required username="admin" password="{PASSWORDS["admin"]}";\n'
    )
    replaced = {"kafka:9092": broker.sasl, "admin.properties": str(config)}
    for command in acl_commands():
        options = [replaced.get(word, word) for word in command[1:]]
        broker.broker.java("org.apache.kafka.tools.AclCommand", *options)
    topics = TopicSet(
        broker.sasl,
        "sensor-readings",
        "step-events",
        "sensor-readings.dlq",
        "stepstream-state",
        "stepstream",
        1,
    )
    listed = (*RUN_RIGHTS, HOLD_RIGHT)
    run = [right for right in named(listed, topics) if right[0] != "transactional_id"]
    prefix: Right = ("transactional_id", "stepstream-", "WRITE")
    assert broker.rights("stepstream") == {*run, prefix}
    assert broker.rights("operator") == set(named(TOPICS_RIGHTS, topics))


def test_a_topic_that_matches_a_pattern_is_read_as_soon_as_its_rights_are_there(
    broker: SecureBroker, tmp_path: Path
) -> None:
    user = MECHANISMS["PLAIN"]
    topics = TopicSet.create(broker.sasl, 1, as_admin(broker))
    other = replace(topics, readings=f"{topics.readings}-other")
    create_topics(other.settings().kafka, other.settings().topics)
    broker.grant(user, named(RUN_RIGHTS, topics))
    broker.grant(user, [("topic", other.readings, "DESCRIBE")])
    more = {
        **environment(broker, "PLAIN"),
        "STEPSTREAM_TOPICS__READINGS": f"^{topics.readings}",
        "STEPSTREAM_KAFKA__PROPERTIES": '{"topic.metadata.refresh.interval.ms": 1000}',
    }
    walked = walk(1, 5.0, batch=20)
    other.produce(walked)
    with RunProcess(topics, tmp_path, **more) as run:
        run.wait_for_log(f"topic {other.readings} matches a pattern, but it isn't read")
        assert "this user lacks READ, DESCRIBE_CONFIGS" in run.log.read_text()
        topics.produce(walked)
        topics.wait_consumed()
        assert other.committed() == {}
        broker.grant(user, named(RUN_RIGHTS[:2], other))
        other.wait_consumed()
        broker.withdraw(user, ("topic", other.readings, "READ"))
        run.wait_for_log("this user lacks READ\n")
        topics.produce(walked)
        topics.wait_consumed()
        assert run.terminate() == 0
