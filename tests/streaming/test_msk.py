from __future__ import annotations

import base64
import importlib.util
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlparse

import pytest

from stepstream.errors import SettingsError
from stepstream.settings import KafkaSettings
from stepstream.streaming.clients import client_properties
from stepstream.streaming.msk import SIGNER
from tests.conftest import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLUSTER = "b-1.walks.abc123.c2.kafka.eu-west-1.amazonaws.com:9098"
ACCESS_KEY = "AKIAEXAMPLE"
SECRET_KEY = "aws-secret-mQ7xV2dH"  # noqa: S105 - it opens nothing


def msk(bootstrap_servers: str = CLUSTER) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        security_protocol="sasl_ssl",
        sasl_mechanism="AWS_MSK_IAM",
    )


@pytest.fixture
def signer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that gives the region instead of a token."""
    package = tmp_path / SIGNER
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "MSKAuthTokenProvider.py").write_text(
        "def generate_auth_token(region):\n    return region, 1_700_000_000_500\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(variable, raising=False)
    forget_signer()
    yield
    forget_signer()


def forget_signer() -> None:
    """Have the package imported again."""
    for name in [name for name in sys.modules if name.partition(".")[0] == SIGNER]:
        del sys.modules[name]


@pytest.mark.usefixtures("signer")
@pytest.mark.parametrize(
    ("servers", "variables", "region"),
    [
        (CLUSTER, {"AWS_REGION": "us-east-1"}, "eu-west-1"),
        ("boot-x.c1.kafka-serverless.ap-south-1.amazonaws.com:9098", {}, "ap-south-1"),
        ("kafka.example.org:9098", {"AWS_REGION": "us-east-1"}, "us-east-1"),
        ("kafka.example.org:9098", {"AWS_DEFAULT_REGION": "us-west-2"}, "us-west-2"),
    ],
)
def test_tokens_are_of_the_clusters_region(
    monkeypatch: pytest.MonkeyPatch, servers: str, variables: dict[str, str], region: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    properties = client_properties(msk(servers))
    assert properties["sasl.mechanism"] == "OAUTHBEARER"
    assert properties["oauth_cb"]("") == (region, 1_700_000_000.5)


@pytest.mark.usefixtures("signer")
def test_a_region_that_is_unknown_is_an_error() -> None:
    with pytest.raises(SettingsError, match="set AWS_REGION"):
        client_properties(msk("kafka.example.org:9098"))


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_signer()
    monkeypatch.setitem(sys.modules, SIGNER, None)
    with pytest.raises(SettingsError, match=r"pip install 'stepstream\[msk\]'"):
        client_properties(msk())


def test_the_real_signer_signs_with_the_credentials_of_this_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if importlib.util.find_spec(SIGNER) is None:
        missing("aws-msk-iam-sasl-signer-python, to sign tokens for MSK")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-kW5pJ9sF")
    caplog.set_level("DEBUG")
    token, expires_s = client_properties(msk())["oauth_cb"]("")
    url = urlparse(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    asked = parse_qs(url.query)
    assert (url.scheme, url.netloc) == ("https", "kafka.eu-west-1.amazonaws.com")
    assert asked["Action"] == ["kafka-cluster:Connect"]
    assert asked["X-Amz-Credential"][0].startswith(f"{ACCESS_KEY}/")
    assert "/eu-west-1/kafka-cluster/" in asked["X-Amz-Credential"][0]
    assert len(asked["X-Amz-Signature"][0]) == 64
    assert 60 < expires_s - time.time() <= 900
    for secret in (SECRET_KEY, "session-kW5pJ9sF", asked["X-Amz-Signature"][0]):
        assert secret not in caplog.text
