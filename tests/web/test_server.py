from __future__ import annotations

import logging
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stepstream.errors import SettingsError
from stepstream.messages import ErrorCode
from stepstream.metrics import METRICS
from stepstream.settings import HttpSettings, KafkaSettings, Settings
from stepstream.streaming.consumer import Consumer
from stepstream.web.server import Server
from tests.detection.builders import TransparentModel
from tests.kafka.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def consumer() -> Iterator[Consumer]:
    """A consumer that isn't running; no broker is there."""
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", properties={"log_level": 0})
    made = Consumer(Settings(kafka=kafka), TransparentModel())
    yield made
    made.close()


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def settings() -> HttpSettings:
    return HttpSettings(address="127.0.0.1", port=free_port())


def test_a_consumer_that_has_not_joined_is_live_and_not_ready(consumer: Consumer) -> None:
    with Server(settings(), consumer) as server:
        assert get(server, "/livez") == (200, "live\n")
        assert get(server, "/readyz")[0] == 503
        assert get(server, "/else")[0] == 404


def test_every_metric_of_the_list_is_exported_with_its_value(consumer: Consumer) -> None:
    consumer.totals.readings = 1234
    consumer.totals.dead_letters[ErrorCode.NULL_VALUE] = 5
    with Server(settings(), consumer) as server:
        _, text = get(server, "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    names = {metric.name.removesuffix("_total").removesuffix("_info") for metric in METRICS}
    assert names <= {name.removesuffix("_info") for name in families}
    assert families["stepstream_readings"].samples[0].value == 1234
    letters = {s.labels["error"]: s.value for s in families["stepstream_dead_letters"].samples}
    assert letters.keys() == set(ErrorCode)
    assert letters["null-value"] == 5
    assert families["stepstream_model_info"].samples[0].labels["model"] == "transparent-1"


def test_a_taken_port_is_an_error_if_it_was_asked_for(consumer: Consumer) -> None:
    taken = settings()
    with Server(taken, consumer), pytest.raises(SettingsError, match=r"http\.port"):
        Server(taken, consumer)


def test_a_taken_default_port_only_warns(
    consumer: Consumer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = settings()
    with Server(taken, consumer):
        monkeypatch.setattr(HttpSettings, "model_fields_set", set())
        with caplog.at_level(logging.WARNING), Server(taken, consumer) as second:
            assert second.port is None
    assert "port is taken" in caplog.text
