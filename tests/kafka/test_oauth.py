"""Tokens of OAUTHBEARER: of an OAuth server, and signed by the process itself for Amazon MSK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.test_run import walk
from tests.kafka.test_security import (
    RUN_RIGHTS,
    TOPICS_RIGHTS,
    as_admin,
    call,
    named,
    wait_for_end,
)
from tests.kafka.token_server import CLIENT, CLIENT_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kafka.secure_broker import SecureBroker

SHORT_S = 4.0
SIGNER = '''
import base64, json, os, time

def generate_auth_token(region):
    """An unsigned token instead of one that AWS would know."""
    expires_s = time.time() + 4
    with open(os.environ["SIGNED"], "a") as file:
        file.write(f"{os.getpid()} {region}\\n")
    claims = {"sub": "msk", "iat": time.time(), "exp": expires_s}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""]), expires_s * 1000
'''


@pytest.fixture
def short_tokens(secure_broker: SecureBroker) -> Iterator[SecureBroker]:
    """A broker whose token server gives tokens that expire soon."""
    usual_s, secure_broker.tokens.lifetime_s = secure_broker.tokens.lifetime_s, SHORT_S
    yield secure_broker
    secure_broker.tokens.lifetime_s = usual_s


def test_readings_are_processed_with_tokens_that_are_renewed(
    short_tokens: SecureBroker, tmp_path: Path
) -> None:
    topics = TopicSet.named(short_tokens.sasl, 1, as_admin(short_tokens))
    more = short_tokens.oidc_environment()
    short_tokens.grant(CLIENT, {*named(TOPICS_RIGHTS, topics), *named(RUN_RIGHTS, topics)})
    made = call(topics, tmp_path, "topics", "--topics.partitions", "1", **more)
    assert (made.returncode, made.stdout.count(": created")) == (0, 4), made.stdout
    first, second = walk(1, 5.0, batch=20)[:5], walk(1, 5.0, batch=20)[5:]
    with RunProcess(topics, tmp_path, **more) as run:
        topics.produce(first)
        topics.wait_consumed()
        # Several times for each of its clients; the broker ends connections with old tokens.
        given = len(short_tokens.tokens.tokens)
        wait_until("new tokens", lambda: len(short_tokens.tokens.tokens) > given + 8, 30)
        topics.produce(second)
        topics.wait_consumed()
        assert run.terminate() == 0
    assert topics.read_events()


def test_the_secret_may_be_in_a_file_and_is_written_nowhere(
    short_tokens: SecureBroker, tmp_path: Path
) -> None:
    topics = TopicSet.create(short_tokens.sasl, 1, as_admin(short_tokens))
    short_tokens.grant(CLIENT, named(RUN_RIGHTS, topics))
    more = short_tokens.oidc_environment()
    del more["STEPSTREAM_KAFKA__SASL_PASSWORD"]
    (tmp_path / "secret").write_text(f"{CLIENT_SECRET}\n")
    properties = json.loads(more["STEPSTREAM_KAFKA__PROPERTIES"])
    more |= {
        "STEPSTREAM_KAFKA__SASL_PASSWORD_FILE": str(tmp_path / "secret"),
        "STEPSTREAM_KAFKA__PROPERTIES": json.dumps({**properties, "debug": "all"}),
        "STEPSTREAM_LOGGING__LEVEL": "debug",
    }
    with RunProcess(topics, tmp_path, **more) as run:
        run.wait_for_log("partition started")
        given = len(short_tokens.tokens.tokens)
        wait_until("new tokens", lambda: len(short_tokens.tokens.tokens) > given + 2, 30)
        assert run.terminate() == 0
    log = run.log.read_text()
    assert "OAUTHBEARER" in log
    for secret in (CLIENT_SECRET, *short_tokens.tokens.tokens):
        assert secret not in log
        # The part of a token that nobody can make.
        assert secret.rpartition(".")[2] not in log


def test_a_wrong_secret_ends_the_start_with_the_cause(
    secure_broker: SecureBroker, tmp_path: Path
) -> None:
    topics = TopicSet.named(secure_broker.sasl, 1)
    wrong = "wrong-pC3vN7kS"
    more = {**secure_broker.oidc_environment(), "STEPSTREAM_KAFKA__SASL_PASSWORD": wrong}
    with RunProcess(topics, tmp_path, **more) as run:
        last = wait_for_end(run)
    assert "invalid_client" in last
    assert wrong not in run.log.read_text()


def test_a_token_that_the_broker_does_not_trust_ends_the_start(
    secure_broker: SecureBroker, tmp_path: Path
) -> None:
    topics = TopicSet.named(secure_broker.sasl, 1)
    secure_broker.tokens.signs_with_other_key = True
    try:
        with RunProcess(topics, tmp_path, **secure_broker.oidc_environment()) as run:
            last = wait_for_end(run)
    finally:
        secure_broker.tokens.signs_with_other_key = False
    assert "invalid_token" in last


def msk_environment(broker: SecureBroker, folder: Path) -> dict[str, str]:
    """Settings as for MSK, and a signer whose tokens a broker without AWS accepts."""
    package = folder / "packages" / "aws_msk_iam_sasl_signer"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "MSKAuthTokenProvider.py").write_text(SIGNER)
    return {
        **broker.sasl_environment("OAUTHBEARER", "msk"),
        "STEPSTREAM_KAFKA__SASL_MECHANISM": "AWS_MSK_IAM",
        "STEPSTREAM_KAFKA__PROPERTIES": "{}",
        "PYTHONPATH": f"{package.parent}:{ROOT}",
        "SIGNED": str(folder / "signed"),
        "AWS_REGION": "eu-north-1",
    }


def test_all_clients_ask_for_signed_tokens_and_renew_them(
    secure_broker: SecureBroker, tmp_path: Path
) -> None:
    topics = TopicSet.named(secure_broker.sasl, 1, as_admin(secure_broker))
    more = msk_environment(secure_broker, tmp_path)
    secure_broker.grant("msk", {*named(TOPICS_RIGHTS, topics), *named(RUN_RIGHTS, topics)})

    def signed() -> list[str]:
        return (tmp_path / "signed").read_text().splitlines()

    made = call(topics, tmp_path, "topics", "--topics.partitions", "1", **more)
    assert (made.returncode, made.stdout.count(": created")) == (0, 4), made.stdout
    with RunProcess(topics, tmp_path, **more) as run:
        topics.produce(walk(1, 5.0, batch=20))
        topics.wait_consumed()
        before = len(signed())
        wait_until("new tokens", lambda: len(signed()) > before + 8, 30)
        assert run.terminate() == 0
    assert topics.read_events()
    assert {line.split()[1] for line in signed()} == {"eu-north-1"}
    secure_broker.grant("msk", [("topic", topics.events, "READ")])
    shown = call(topics, tmp_path, "tail", "--from", "beginning", "--max", "1", "--json", **more)
    assert shown.returncode == 0, shown.stdout


def test_a_signer_that_fails_ends_the_start_and_shows_no_secret(
    secure_broker: SecureBroker, tmp_path: Path
) -> None:
    topics = TopicSet.named(secure_broker.sasl, 1)
    more = msk_environment(secure_broker, tmp_path)
    module = next((tmp_path / "packages").rglob("MSKAuthTokenProvider.py"))
    secret = "aws-secret-rE2kT6bM"  # noqa: S105 - it opens nothing
    module.write_text(f"def generate_auth_token(region):\n    raise ValueError({secret!r})\n")
    with RunProcess(topics, tmp_path, **more) as run:
        wait_until("the end of the process", lambda: not run.is_alive, 60)
        assert run.terminate() == 1
    log = run.log.read_text()
    assert "no token for MSK: ValueError" in log
    assert secret not in log
