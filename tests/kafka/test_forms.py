"""Messages of other forms, from `simulate` through a broker: the events are those of `detect`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.inputs.forms import ARRAYS, NESTED
from tests.kafka.builders import RunProcess, TopicSet
from tests.kafka.played import Played, by_device

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS: dict[str, dict[str, Any]] = {
    "nested objects with their id": {
        "fields": NESTED, "time_unit": "us", "device_id": "device.id",
    },
    "MessagePack, a list, the id in a header": {
        "format": "msgpack", "readings": "data", "fields": ARRAYS, "device_id": "header:device",
    },
    "CBOR, ISO 8601, a key in JSON": {
        "format": "cbor", "fields": NESTED, "time_unit": "iso8601", "key": "json",
    },
}  # fmt: skip


@pytest.mark.kafka
@pytest.mark.parametrize("form", SETTINGS)
def test_what_simulate_writes_is_read_by_the_same_settings(
    form: str, topics: TopicSet, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SETTINGS[form].items():
        text = value if isinstance(value, str) else json.dumps(value)
        monkeypatch.setenv(f"STEPSTREAM_INPUT__{name.upper()}", text)
    played = Played(topics, recordings, tmp_path / "truth.jsonl")
    with RunProcess(topics, tmp_path) as run:
        run.wait_for_log("partition started")
        assert played.start(speed=60).wait(120) == 0
        topics.wait_consumed()
        assert run.terminate() == 0
    assert by_device(topics.read_events()) == played.expected()
    assert not topics.read(topics.dead_letters)
