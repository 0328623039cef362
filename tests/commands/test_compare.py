"""Where ``stepstream compare`` serves its metrics."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest

from stepstream.commands.compare import Gauges
from stepstream.errors import SettingsError
from stepstream.settings import HttpSettings, OtlpSettings, Settings
from stepstream.streaming.comparison import compare
from tests.kafka.broker import free_port
from tests.kafka.builders import fetch, wait_until
from tests.otlp.receiver import receiving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens, as a consumer on the same machine does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_default_port_in_use_is_replaced_by_a_free_one(
    taken: int, caplog: pytest.LogCaptureFixture
) -> None:
    http = HttpSettings(address="127.0.0.1")
    object.__setattr__(http, "port", taken)
    http.model_fields_set.discard("port")
    caplog.set_level(logging.INFO)
    with Gauges().served(Settings(http=http)):
        (line,) = caplog.records
        port = int(vars(line)["address"].rpartition(":")[2])
        assert port != taken
        status, text = fetch(port, "/metrics")
    assert status == 200
    assert "stepstream_comparison_timestamp_seconds" in text


def test_what_is_served_is_pushed() -> None:
    gauges = Gauges()
    found, live = {"a": 10, "b": 20}, {"a": 10, "b": 10}
    gauges.set(compare({("phones", 0): found}, {("phones", 0): live}))
    with receiving() as receiver:
        otlp = OtlpSettings(endpoint=receiver.endpoint)
        http = HttpSettings(address="127.0.0.1", port=free_port())
        with gauges.served(Settings(http=http, otlp=otlp)):
            (push, *_) = wait_until("a push", lambda: receiver.pushes)
    assert push.value("stepstream_comparison_steps", group="live") == 20
    assert push.value("stepstream_comparison_steps", group="other") == 30
    assert push.metrics["stepstream_comparison_ratio"].unit == "1"
    assert push.resource["service.instance.id"].endswith(f":{http.port}")


def test_a_port_that_was_asked_for_and_is_in_use_is_refused(taken: int) -> None:
    settings = Settings(http=HttpSettings(address="127.0.0.1", port=taken))
    with pytest.raises(SettingsError, match=f"http.port {taken}: "), Gauges().served(settings):
        pass
