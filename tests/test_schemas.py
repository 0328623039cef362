from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from stepstream.cli import main
from stepstream.inputs import ErrorCode
from stepstream.outputs import Minute, OutputRecord, Walk
from stepstream.schemas import output_schema, readings_schema
from stepstream.settings import InputSettings, OutputKind
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.builders import decode, encode, reading
from tests.conftest import ROOT
from tests.inputs.forms import BATCH, FORMS
from tests.outputs.test_outputs import STEP, outputs
from tests.streaming.test_processor import decoded, processor, take
from tests.streaming.test_processor import walk as walk_records


def validator(name: str) -> Draft202012Validator:
    return of_schema(output_schema("step") if name == "event" else readings_schema(InputSettings()))


def of_schema(schema: dict[str, Any]) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["schema", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("batch", [1, 30])
@pytest.mark.parametrize("gyroscope", [True, False])
def test_simulated_readings_validate(batch: int, gyroscope: bool) -> None:
    devices = [Device("w", Walker(1, 80, gyroscope=gyroscope))]
    for message in messages(devices, 1_700_000_000, 1.0, batch=batch):
        validator("reading").validate(json.loads(message.value))


def test_real_events_validate() -> None:
    made, partition = processor()
    events = decoded(take(made, partition, walk_records("phone", 4)))
    assert len(events) == 4
    for event in events:
        validator("event").validate(event)


@pytest.mark.parametrize(
    "value",
    [
        reading(),
        reading(device_id="phone"),
        reading(timestamp=None),
        reading(gyro_x=None, gyro_y=None, gyro_z=None),
        reading(gyro_x=None),
        reading(accel_x=None),
        reading(accel_x="1"),
        reading(accel_y=401),
        reading(accel_x=[1.0]),
        {name: [1.0, 2.0] for name in reading()},
        {name: [1.0, 2.0] for name in reading() if name != "timestamp"},
        {name: [1.0, 2.0] for name in reading() if name != "gyro_z"},
        [],
    ],
    ids=str,
)
def test_the_schema_of_readings_and_the_decoder_agree(value: Any) -> None:
    assert validator("reading").is_valid(value) == (not decode([encode(value)]).invalid)


def test_an_event_that_lacks_a_field_does_not_validate() -> None:
    made, partition = processor()
    (event,) = decoded(take(made, partition, walk_records("phone", 1)))
    for name in event:
        partial = {key: field for key, field in event.items() if key != name}
        assert not validator("event").is_valid(partial)


JSON_FORMS = [name for name, form in FORMS.items() if form.settings.get("format") is None]


@pytest.mark.parametrize("name", JSON_FORMS)
def test_messages_of_each_form_validate_and_others_do_not(name: str) -> None:
    form = FORMS[name]
    made = of_schema(readings_schema(InputSettings(**form.settings)))
    times = 1_700_000_000_000_000 + 12_500 * np.arange(BATCH)
    rows = form.rows(times, np.full((BATCH, 6), 9.0))
    for record in form.records(rows):
        document = json.loads(record.value() or b"")
        made.validate(document)
        assert not made.is_valid(without_axis(document))
    assert not made.is_valid({})
    assert not made.is_valid("text")


def without_axis(node: Any) -> Any:
    """A document in which no number is left, not even as text."""
    if isinstance(node, dict):
        return {name: without_axis(inner) for name, inner in node.items()}
    if isinstance(node, list):
        return [without_axis(inner) for inner in node]
    try:
        float(node)
    except (TypeError, ValueError):
        return node
    return True


def test_limits_are_in_the_units_of_the_settings() -> None:
    made = of_schema(readings_schema(InputSettings(accel_unit="g", gyro_unit="deg/s")))
    assert made.is_valid(reading(accel_x=40.7, gyro_x=5_729))
    assert not made.is_valid(reading(accel_x=40.8))
    assert not made.is_valid(reading(gyro_x=5_730))


def test_a_pack_of_senml_validates() -> None:
    written = InputSettings(format="senml", fields={"timestamp": "t", "accel_x": "acc_x"})
    schema = readings_schema(written)
    assert "acc_x, accel_y" in schema["description"]
    sample = ROOT / "examples" / "inputs" / "senml" / "message.json"
    assert of_schema(schema).is_valid(json.loads(sample.read_text()))


def test_the_document_in_the_docs_has_all_topics(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("minutes", "walks", "counts"):
        monkeypatch.setenv(f"STEPSTREAM_TOPICS__{kind.upper()}", f"step-{kind}")
    document = printed(capsys)
    assert document == json.loads((ROOT / "docs" / "asyncapi.json").read_text())
    addresses = [channel["address"] for channel in document["channels"].values()]
    assert addresses == [
        "sensor-readings",
        "step-events",
        "step-minutes",
        "step-walks",
        "step-counts",
        "sensor-readings.dlq",
    ]
    assert "read_committed" in document["channels"]["events"]["description"]
    messages = document["components"]["messages"]
    headers = messages["deadLetters"]["headers"]["properties"]
    assert headers["stepstream-error"]["enum"] == [str(code) for code in ErrorCode]
    for reference in references(document):
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [one for inner in node.values() for one in references(inner)]
    return [one for inner in node for one in references(inner)] if isinstance(node, list) else []


def test_the_document_follows_the_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ROOT / "examples" / "inputs" / "avro-gateway"
    monkeypatch.setenv("STEPSTREAM_TOPICS__READINGS", "phones,watches,^more")
    changes = {
        "phones": {"time_unit": "ms", "key": "uuid"},
        "watches": {
            "format": "avro",
            "schema": str(folder / "readings.avsc"),
            "device_id": "header:device",
        },
    }
    monkeypatch.setenv("STEPSTREAM_INPUTS", json.dumps(changes))
    document = printed(capsys)
    channels, messages = document["channels"], document["components"]["messages"]
    assert [channels[f"readings{n}"]["address"] for n in (1, 2, 3)] == ["phones", "watches", None]
    assert "that match ^more" in channels["readings3"]["description"]
    phones, watches = messages["readings1"], messages["readings2"]
    assert phones["bindings"]["kafka"]["key"]["format"] == "uuid"
    assert phones["payload"] == printed(capsys, "phones")
    assert "milliseconds" in json.dumps(phones["payload"])
    assert watches["contentType"] == "application/avro"
    assert watches["payload"]["schema"]["name"] == "Readings"
    assert watches["headers"]["required"] == ["device"]
    assert printed(capsys, "step-events") == output_schema("step")
    assert printed(capsys, "more-readings") == readings_schema(InputSettings())


def test_what_is_published_validates() -> None:
    made = outputs()
    walked = Walk("phone", 1, 0, 1_000_000, 9_000_000, 12, 8_000_000)
    minute, walk = made.final("readings", 0, [Minute("phone", 1, 0, 1, 110, 60_400_000), walked])
    (count,) = made.counts([STEP])
    (event,) = made.events([STEP])
    kinds: dict[OutputKind, OutputRecord] = {
        "step": event,
        "minute": minute,
        "walk": walk,
        "count": count,
    }
    for kind, record in kinds.items():
        schema = output_schema(kind)
        value = json.loads(record.value or b"")
        of_schema(schema).validate(value)
        assert [*value] == [*schema["properties"]] == schema["required"]


def test_a_topic_without_a_schema_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "other"]) == 2
    assert "topics that have one: sensor-readings, step-events" in capsys.readouterr().err
