"""When metrics are pushed, and what happens if the receiver doesn't take them."""

from __future__ import annotations

import logging
import ssl
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from prometheus_client import CollectorRegistry

from stepstream.errors import SettingsError
from stepstream.otlp import pusher as pusher_module
from stepstream.otlp.failures import PushFailures
from stepstream.otlp.pusher import Pusher, describe_process
from stepstream.settings import OtlpSettings, Settings
from tests.kafka.broker import free_port
from tests.kafka.builders import wait_until
from tests.otlp.receiver import receiving
from tests.web.builders import request, settings
from tests.web.served_workers import served_workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "Bearer 3c9d2f7a1b"  # noqa: S105 - made up
NAME = "stepstream_otlp_failures_total"


@contextmanager
def pushing(endpoint: str, **changes: Any) -> Iterator[PushFailures]:
    """Push the number of failures, every hour if nothing else is said."""
    failures = PushFailures()
    registry = CollectorRegistry()
    registry.register(failures)

    async def render(encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        return encode(registry)

    given = OtlpSettings.model_validate({"endpoint": endpoint, "interval_s": 3_600, **changes})
    with Pusher(given, render, failures, describe_process(8080, "steps")):
        yield failures


def test_it_is_pushed_at_the_start_every_interval_and_at_the_end() -> None:
    with receiving() as receiver:
        with pushing(receiver.endpoint, interval_s=1):
            wait_until("two pushes", lambda: len(receiver.pushes) == 2)
        assert len(receiver.pushes) == 3
        with pushing(receiver.endpoint):
            wait_until("a push", lambda: len(receiver.pushes) == 4)
        assert len(receiver.pushes) == 5


def test_a_push_says_who_sends_it() -> None:
    with receiving() as receiver:
        more = {"deployment.environment.name": "lab", "service.instance.id": "left"}
        headers = {"authorization": SECRET}
        with pushing(f"{receiver.endpoint}/otlp/", headers=headers, resource_attributes=more):
            (push, *_) = wait_until("a push", lambda: receiver.pushes)
    assert push.path == "/otlp/v1/metrics"
    sent = {name.lower(): value for name, value in push.headers.items()}
    assert sent["authorization"] == SECRET
    assert sent["content-type"] == "application/x-protobuf"
    assert push.resource.pop("service.version")
    assert push.resource == {**describe_process(8080, "steps"), **more}
    assert describe_process(8080, "steps")["messaging.consumer.group.name"] == "steps"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": 401}, "HTTP status 401"),
        ({"status": 302}, "HTTP status 302"),
        ({"refused": 3}, "3 data points were refused: too old"),
        ({"delay_s": 1.0}, "no answer within"),
    ],
)
def test_a_push_that_fails_is_counted_and_logged_once(
    changes: dict[str, Any],
    problem: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pusher_module, "TIMEOUT_S", 0.3)
    with receiving() as receiver:
        vars(receiver).update(changes)
        with pushing(
            receiver.endpoint, interval_s=1, headers={"authorization": SECRET}
        ) as failures:
            wait_until("two failures", lambda: failures.count == 2)
            vars(receiver).update(status=200, refused=0, delay_s=0.0)
            wait_until("a push that says so", lambda: receiver.pushes[-1].value(NAME) == 2)
    (line,) = (r for r in caplog.records if r.name == pusher_module.__name__)
    assert line.levelno == logging.WARNING
    assert problem in line.getMessage()
    assert "3c9d2f7a1b" not in caplog.text


def test_a_receiver_that_never_answers_doesnt_hold_the_end_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pusher_module, "TIMEOUT_S", 2.0)
    monkeypatch.setattr(pusher_module, "READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(pusher_module, "LAST_TIMEOUT_S", 0.2)
    with receiving() as receiver:
        receiver.delay_s = 5.0
        with pushing(receiver.endpoint) as failures:
            wait_until("a push", lambda: receiver.pushes)
            begin_s = time.monotonic()
        assert time.monotonic() - begin_s < 1.0
        wait_until("the thread to end", lambda: failures.count == 2)


def test_certificates_are_checked(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    with receiving(context) as receiver:
        with pushing(receiver.endpoint) as failures:
            wait_until("a failure", lambda: failures.count)
        assert receiver.pushes == []
        with pushing(receiver.endpoint, ca_location=trusted) as failures:
            wait_until("a push", lambda: receiver.pushes)
        assert failures.count == 0


def test_without_an_endpoint_there_is_no_thread_and_no_package_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "stepstream.otlp.conversion", None)
    with pushing("") as failures:
        assert failures.count == 0


def test_a_missing_package_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "stepstream.otlp.conversion", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in [name for name in sys.modules if name.startswith("opentelemetry.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SettingsError, match=r"pip install 'stepstream\[otlp\]'"):
        pushing("http://localhost:4318").__enter__()


def test_authorities_that_cant_be_read_are_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"otlp\.ca_location: can't read .*No such file"):
        pushing("https://localhost:4318", ca_location=tmp_path / "none.pem").__enter__()


def test_the_parent_of_workers_pushes_for_all_and_its_failures_are_its_own() -> None:
    with served_workers(settings()) as front, receiving() as receiver:
        failures = front.app.push_failures
        failures.count = 4
        given = OtlpSettings(endpoint=receiver.endpoint)
        with Pusher(given, front.server.render, failures, describe_process(1)):
            (push, *_) = wait_until("a push", lambda: receiver.pushes)
        for worker in "01":
            assert push.value("stepstream_last_turn_age_seconds", worker=worker) < 60
        assert push.value("stepstream_workers", state="running") == 2
        assert push.value(NAME, worker="parent") == 4
        page = request(front.server, "/metrics").body.decode()
        assert [line for line in page.splitlines() if line.startswith(NAME)] == [
            f'{NAME}{{worker="parent"}} 4.0'
        ]


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4318",
        "ftp://collector",
        "http://",
        "http://user:word@collector:4318",
        "http://collector:4318?key=1",
        "http://collector:4318/v1/metrics",
    ],
)
def test_endpoints_that_are_none_or_hold_secrets_are_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"otlp\.headers|leave /v1/metrics out"):
        OtlpSettings(endpoint=endpoint)


@pytest.mark.parametrize("headers", [{"a b": "secret-1"}, {"a": "secret-1\n"}, {"a": ""}])
def test_headers_that_http_doesnt_allow_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="HTTP doesn't allow"):
        OtlpSettings.model_validate({"headers": headers})


def test_headers_are_hidden() -> None:
    given = OtlpSettings.model_validate({"headers": {"authorization": SECRET, "tenant": "a1"}})
    assert "3c9d2f7a1b" not in repr(given)
    assert given.hide_secrets(f"{SECRET}, 3c9d2f7a1b of a1") == "***, *** of a1"
    assert settings().model_copy(update={"otlp": given}).hide_secrets(SECRET) == "***"


def test_without_a_port_nothing_can_be_pushed() -> None:
    given = {"otlp": {"endpoint": f"http://localhost:{free_port()}"}, "http": {"port": 0}}
    with pytest.raises(ValueError, match=r"otlp\.endpoint needs http\.port"):
        Settings.model_validate(given)
