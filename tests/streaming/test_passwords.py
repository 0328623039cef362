from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.logs import configure_logging
from stepstream.settings import KafkaSettings, LoggingSettings, Settings
from stepstream.streaming import passwords as module
from stepstream.streaming.connections import Connections, _Consumer
from stepstream.streaming.passwords import Passwords
from tests.kafka.builders import wait_until

if TYPE_CHECKING:
    from pathlib import Path


class Client:
    """Keeps what it is given; a client that was closed refuses it, as the real one does."""

    def __init__(self, *, is_closed: bool = False) -> None:
        self.is_closed = is_closed
        self.given: list[tuple[str, str]] = []

    def set_sasl_credentials(self, username: str, password: str) -> None:
        if self.is_closed:
            raise RuntimeError("Handle has been closed")
        self.given.append((username, password))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "LOOK_INTERVAL_S", 0.02)
    made = tmp_path / "password"
    made.write_text("first-zB4nL7wQ\n")
    return made


def kafka(file: Path, mechanism: str = "PLAIN") -> KafkaSettings:
    return KafkaSettings(sasl_mechanism=mechanism, sasl_username="me", sasl_password_file=file)


def test_clients_that_live_and_later_ones_get_a_new_password(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    passwords = Passwords(kafka(file))
    closed, client = Client(is_closed=True), passwords.give(Client())
    passwords.give(closed)
    assert client.given == []
    file.unlink()
    wait_until("a warning", lambda: "the new password can't be used" in caplog.text, 5)
    file.write_text("second-hT9cR2vX\n")
    wait_until("the password", lambda: client.given == [("me", "second-hT9cR2vX")], 5)
    assert passwords.give(Client()).given == [("me", "second-hT9cR2vX")]
    wait_until("a line", lambda: "new kafka.sasl_password" in caplog.text, 5)
    assert "second" not in caplog.text


def test_a_consumer_takes_it_before_it_is_polled_whoever_keeps_polling(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread could wait forever: calls of a consumer wait for each other."""
    given: list[tuple[str, str, str]] = []

    def note(_: Any, username: str, password: str) -> None:
        given.append((username, password, threading.current_thread().name))

    monkeypatch.setattr(_Consumer, "set_sasl_credentials", note, raising=False)
    mine = {"sasl_mechanism": "PLAIN", "sasl_username": "me", "sasl_password_file": file}
    connections = Connections(Settings.model_validate({"kafka": mine}))
    consumer = connections.reader()
    consumer.poll(0)
    assert given == []
    file.write_text("second-hT9cR2vX\n")

    def is_given() -> bool:
        consumer.consume(1, 0)
        return bool(given)

    wait_until("the password", is_given, 5)
    consumer.poll(0)
    expected = ("me", "second-hT9cR2vX", threading.current_thread().name)
    assert given == [expected]
    later = connections.state_consumer()
    assert given == [expected] * 2
    consumer.close()
    later.close()


def test_a_password_that_came_later_is_hidden_in_the_log(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passwords = Passwords(kafka(file))
    client = passwords.give(Client())
    file.write_text("third-wK8pM3zJ")
    wait_until("the password", lambda: bool(client.given), 5)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure_logging(LoggingSettings(), lambda text: text)
        logging.getLogger("any").info("it is third-wK8pM3zJ")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    written = capsys.readouterr().err
    assert "it is ***" in written


def test_the_secret_of_an_oauth_client_is_not_watched(file: Path) -> None:
    before = threading.active_count()
    Passwords(kafka(file, "OAUTHBEARER"))
    assert threading.active_count() == before
