from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from stepstream.inputs import ErrorCode
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.builders import decode, encode, reading
from tests.streaming.test_processor import decoded, processor, take
from tests.streaming.test_processor import walk as walk_records

ROOT = Path(__file__).resolve().parents[1]


def validator(name: str) -> Draft202012Validator:
    text = resources.files("stepstream").joinpath(f"schemas/{name}.schema.json").read_text()
    schema = json.loads(text)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


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


def test_the_asyncapi_document_names_every_error_code() -> None:
    document = (ROOT / "docs" / "asyncapi.yaml").read_text()
    listed = re.search(r"enum:\n((?: +- [a-z-]+\n)+)", document)
    assert listed
    assert re.findall(r"- ([a-z-]+)", listed[1]) == [str(code) for code in ErrorCode]
    assert "read_committed" in document
