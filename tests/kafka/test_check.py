"""`stepstream check` on topics of a real broker, with a real schema registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.cli import main
from tests.commands.test_check import advised
from tests.kafka.builders import RunProcess, TopicSet
from tests.kafka.played import by_device
from tests.kafka.schema_forms import avro, avro_array, avro_record
from tests.kafka.test_schemas import Walk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(topics: TopicSet, more: Mapping[str, str], *arguments: str) -> tuple[int, str]:
        for name, value in {**topics.environment(), **more}.items():
            monkeypatch.setenv(name, value)
        code = main(["check", *arguments])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def nested(columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "samples": [
            {
                "at": round(columns["timestamp"][row] * 1e6),
                "acc": [columns[f"accel_{axis}"][row] for axis in "xyz"],
                "gyr": [columns[f"gyro_{axis}"][row] for axis in "xyz"],
            }
            for row in range(len(columns["timestamp"]))
        ]
    }


def test_avro_that_is_read_as_json(
    topics: TopicSet, registry: SchemaRegistry, tmp_path: Path, check: Any
) -> None:
    walked = Walk()
    item = avro_record(at="long", acc=avro_array("float"), gyr=avro_array("float"))
    item["name"] = "Item"
    schema = avro_record(samples=avro_array(item))
    serialize = avro(registry, topics.readings, schema)
    topics.produce(walked.written(lambda columns: serialize(nested(columns))))
    code, output = check(topics, {})
    assert code == 1
    assert "Avro behind the id of a schema" in output
    assert advised(output).keys() == {"STEPSTREAM_INPUT__FORMAT", "STEPSTREAM_REGISTRY__URL"}
    code, output = check(topics, {"STEPSTREAM_REGISTRY__URL": registry.url})
    assert code == 1
    settings = {**advised(output), "STEPSTREAM_REGISTRY__URL": registry.url}
    assert settings["STEPSTREAM_INPUT__FORMAT"] == "avro"
    assert settings["STEPSTREAM_INPUT__TIME_UNIT"] == "us"
    code, output = check(topics, settings)
    assert code == 0, output
    assert "all is right" in output
    assert "20 readings in each" in output
    with RunProcess(topics, tmp_path, **settings) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
    assert by_device(topics.read_events()) == walked.expected


def test_the_last_messages_of_each_partition_are_looked_at(topics: TopicSet, check: Any) -> None:
    walked = Walk()
    topics.produce([(key, b"old") for key, _ in walked.messages])
    topics.produce((key, json.dumps(value).encode()) for key, value in walked.messages)
    code, output = check(topics, {}, "--messages", "8")
    assert code == 0, output
    assert "read as json" in output
    assert check(topics, {})[0] == 1


def test_an_empty_topic_and_a_topic_that_does_not_exist(topics: TopicSet, check: Any) -> None:
    assert check(topics, {}) == (
        1, f"{topics.readings}\n  no message yet: nothing can be checked\n",
    )  # fmt: skip
    other = TopicSet.named(topics.bootstrap)
    code, output = check(other, {})
    assert code == 1
    assert output == (
        f"stepstream check: there is no topic {other.readings}; is topics.readings right?\n"
    )


def test_a_device_in_two_partitions_is_said(topics: TopicSet, check: Any) -> None:
    walked = Walk()
    value = [
        json.dumps({**columns, "device_id": None, "id": columns["device_id"]}).encode()
        for _, columns in walked.messages
    ]
    keys = [b"%d" % row for row in range(len(value))]
    topics.produce(zip(keys, value, strict=True))
    code, output = check(topics, {"STEPSTREAM_INPUT__DEVICE_ID": "id"})
    assert code == 1
    assert "3 of them in more than one partition" in output
