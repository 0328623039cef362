"""`POST /v1/detect` takes the messages of examples/inputs as the topic takes them."""

from __future__ import annotations

import pytest

from stepstream.settings import Settings
from tests.inputs.test_ready_made import EXAMPLES, FOLDER, message_of
from tests.web.builders import consumer_without_broker, request, serve, settings


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_message_of_an_example_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER / name)
    written = Settings(_env_file="settings.env").input
    made_with = settings().model_copy(update={"input": written})
    body = message_of(FOLDER / name).read_bytes()
    with consumer_without_broker(made_with) as idle, serve(made_with, idle) as server:
        answer = request(server, "/v1/detect", body)
    assert answer.status == 200, answer.body
    assert answer.json["readings"] == (4 if written.sensor else 2)
