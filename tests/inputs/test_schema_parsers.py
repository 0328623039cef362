"""Formats whose schema is in a file: what is read, and which mistakes end the start."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from stepstream.errors import SettingsError
from stepstream.inputs import make_format, schemas
from stepstream.inputs.columns import FIELDS
from stepstream.settings import InputSettings, RegistrySettings
from tests.builders import decode
from tests.inputs.protobuf_types import compile_set, message_type, new

if TYPE_CHECKING:
    from pathlib import Path

AVRO = {
    "type": "record",
    "name": "Reading",
    "fields": [{"name": name, "type": "double"} for name in FIELDS],
}
PROTOBUF = f"""
syntax = "proto3";
package house;
message Reading {{
  {" ".join(f"double {name} = {number};" for number, name in enumerate(FIELDS, 1))}
}}
"""
READING = {name: float(number) for number, name in enumerate(FIELDS)}


@pytest.fixture
def avro_file(tmp_path: Path) -> str:
    file = tmp_path / "reading.avsc"
    file.write_text(json.dumps(AVRO))
    return str(file)


@pytest.fixture
def protobuf_file(tmp_path: Path) -> str:
    file = tmp_path / "reading.desc"
    file.write_bytes(compile_set(PROTOBUF))
    return str(file)


def in_avro() -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(AVRO), READING)
    return file.getvalue()


def test_avro_with_a_file(avro_file: str) -> None:
    for count in (1, 10):
        found = decode([in_avro()] * count, format="avro", schema=avro_file)
        assert not found.invalid
        assert found.axes.tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] * count


def test_protobuf_with_a_file(protobuf_file: str) -> None:
    message = new(message_type(PROTOBUF, "house.Reading"), **READING).SerializeToString()
    given: dict[str, Any] = {
        "format": "protobuf",
        "schema": protobuf_file,
        "message_type": "house.Reading",
    }
    for count in (1, 10):
        found = decode([message] * count, **given)
        assert not found.invalid
        assert found.axes.tolist() == [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]] * count


def test_json_with_the_id_of_a_schema_or_without() -> None:
    value = json.dumps(READING).encode()
    found = decode([value, b"\0\0\0\0\7" + value], format="json-schema")
    assert not found.invalid
    assert found.axes[0].tolist() == found.axes[1].tolist()


def refused(registry: RegistrySettings | None = None, **given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        make_format(InputSettings(**given), registry)
    return str(caught.value)


def test_a_file_that_is_no_schema_ends_the_start(tmp_path: Path, protobuf_file: str) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\xff{")
    absent = str(tmp_path / "absent")
    assert "input.schema: can't read" in refused(format="avro", schema=absent)
    assert "not an Avro schema" in refused(format="avro", schema=str(broken))
    given: dict[str, Any] = {"format": "protobuf", "message_type": "house.Reading"}
    assert "not a compiled descriptor set" in refused(**given, schema=str(broken))
    given["message_type"] = "house.Other"
    assert "no message type house.Other" in refused(**given, schema=protobuf_file)


def test_a_path_that_the_schema_does_not_have_ends_the_start(
    avro_file: str, protobuf_file: str
) -> None:
    fields = {"accel_x": "acc.x"}
    said = refused(format="avro", schema=avro_file, fields=fields)
    assert said.startswith("input.fields: accel_x: no field 'acc' in ")
    given: dict[str, Any] = {
        "format": "protobuf",
        "schema": protobuf_file,
        "message_type": "house.Reading",
    }
    assert refused(**given, readings="samples").startswith("input.readings: no field 'samples'")
    assert refused(**given, device_id="id").startswith("input.device_id: no field 'id'")
    sensor = {"path": "kind", "accelerometer": "a", "gyroscope": "g"}
    assert refused(**given, sensor=sensor).startswith("input.sensor.path: no field 'kind'")


def test_a_name_without_a_setting_that_the_schema_does_not_have_ends_the_start(
    tmp_path: Path,
) -> None:
    fields = [{"name": name, "type": "double"} for name in ("ts", "accelX", "accelY", "accel_z")]
    file = tmp_path / "reading.avsc"
    file.write_text(json.dumps({"type": "record", "name": "Reading", "fields": fields}))
    given = {"timestamp": "ts", "accel_x": "accelX"}
    said = refused(format="avro", schema=str(file), fields=given)
    assert said.startswith("input.fields: accel_y: no field 'accel_y' in ")


def test_a_schema_from_two_places_ends_the_start(protobuf_file: str) -> None:
    registry = RegistrySettings(url="http://registry")
    given: dict[str, Any] = {
        "format": "protobuf",
        "schema": protobuf_file,
        "message_type": "house.Reading",
    }
    assert "with a registry" in refused(registry, **given)
    assert "needs registry.url, or a file" in refused(format="avro")


@pytest.mark.parametrize("name", ["avro", "protobuf"])
def test_a_package_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schemas, "find_spec", lambda _: None)
    assert f"pip install 'stepstream[{name}]'" in refused(format=name)
