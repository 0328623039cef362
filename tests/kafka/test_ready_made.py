"""The examples of examples/inputs through a real broker; those with a schema by a registry, too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.schema_registry import Schema

from stepstream.cli import main
from stepstream.detection import Model, default_model_path
from stepstream.settings import Settings
from tests.inputs.forms import BATCH, DEVICE
from tests.inputs.test_ready_made import (
    EXAMPLES,
    FOLDER,
    WRITERS,
    by_writer,
    detected_ends,
    environment_of,
    recorded,
    tolerance_s,
)
from tests.kafka.builders import RunProcess, TopicSet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry

SCHEMA = "STEPSTREAM_INPUT__SCHEMA"
WITH_REGISTRY = {
    "avro-gateway": ("readings.avsc", "AVRO", b""),
    # The place of the type in its file: the list of one number, 1.
    "protobuf-wearable": ("batch.proto", "PROTOBUF", b"\x02\x02"),
}


class Example:
    """An example's settings, and a recording as it writes it."""

    def __init__(self, name: str, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(FOLDER / name)
        self.environment = environment_of(FOLDER / name)
        self.given = Settings(_env_file="settings.env").input
        if SCHEMA in self.environment:
            self.environment[SCHEMA] = str(FOLDER / name / self.environment[SCHEMA])
        rows = recorded(recordings)
        write = WRITERS.get(name, by_writer)
        parts = [rows[begin : begin + BATCH] for begin in range(0, len(rows), BATCH)]
        self.values = [write(self.given, part) for part in parts]
        self.ends = detected_ends(Model(default_model_path()), rows)

    def run(self, topics: TopicSet, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Check the messages, run, and compare what is published."""
        topics.produce((DEVICE, value) for value in self.values)
        for name, value in {**topics.environment(), **self.environment}.items():
            monkeypatch.setenv(name, value)
        assert main(["check"]) == 0
        with RunProcess(topics, folder) as run:
            topics.wait_consumed()
            assert run.terminate() == 0
        events: list[dict[str, Any]] = topics.read_events()
        assert not topics.read(topics.dead_letters)
        assert {event["device_id"] for event in events} == {DEVICE}
        ends = [event["ended_at"] for event in events]
        assert ends == pytest.approx(self.ends, abs=tolerance_s(self.given), rel=0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_steps_of_detect(
    name: str, topics: TopicSet, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Example(name, recordings, monkeypatch).run(topics, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", WITH_REGISTRY)
def test_an_example_with_a_registry_gives_the_steps_of_detect(
    name: str,
    topics: TopicSet,
    registry: SchemaRegistry,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = Example(name, recordings, monkeypatch)
    file, kind, place = WITH_REGISTRY[name]
    schema = Schema((FOLDER / name / file).read_text(), kind)
    number = registry.client.register_schema(f"{topics.readings}-value", schema)
    example.values = [b"\0" + number.to_bytes(4) + place + value for value in example.values]
    del example.environment[SCHEMA]
    example.environment["STEPSTREAM_REGISTRY__URL"] = registry.url
    example.run(topics, tmp_path, monkeypatch)
