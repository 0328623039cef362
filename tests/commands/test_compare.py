"""Where ``stepstream compare`` serves its metrics."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import pytest

from stepstream.commands.compare import Gauges
from stepstream.errors import SettingsError
from stepstream.settings import HttpSettings, Settings
from tests.kafka.builders import fetch

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


def test_a_port_that_was_asked_for_and_is_in_use_is_refused(taken: int) -> None:
    settings = Settings(http=HttpSettings(address="127.0.0.1", port=taken))
    with pytest.raises(SettingsError, match=f"http.port {taken}: "), Gauges().served(settings):
        pass
