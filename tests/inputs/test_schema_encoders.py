"""Documents that are made to fit a schema."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from stepstream.errors import SettingsError
from stepstream.inputs import MessageWriter
from stepstream.inputs.avro import parse_schema
from stepstream.inputs.framing import read_indexes
from stepstream.inputs.proto_files import indexes_of
from stepstream.inputs.schema_encoders import AvroEncoder, ProtobufEncoder
from stepstream.inputs.schemas import SchemaError
from stepstream.settings import InputSettings, RegistrySettings
from tests.inputs.protobuf_types import message_type, new
from tests.inputs.test_writing import AXES_GIVEN, TIME_US

if TYPE_CHECKING:
    from pathlib import Path

SECOND = 10**9
US = 1_700_000_000_012_500


def in_avro(document: Any, unit_ns: int | None = SECOND, /, **fields: Any) -> Any:
    """What fastavro reads of what was written; a field's type may come with its default."""
    listed = [
        {"name": name, **(kind if isinstance(kind, dict) and "default" in kind else {"type": kind})}
        for name, kind in fields.items()
    ]
    named: dict[str, Any] = {}
    schema = parse_schema({"type": "record", "name": "Message", "fields": listed}, named)
    encoded = AvroEncoder(schema, named, unit_ns).encode(document)
    return fastavro.schemaless_reader(io.BytesIO(encoded), schema, None)


def test_what_a_document_lacks_is_the_default_or_zero() -> None:
    fixed = {"type": "fixed", "name": "Four", "size": 4}
    enum = {"type": "enum", "name": "Side", "symbols": ["LEFT", "RIGHT"]}
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "i", "type": "int"}]}
    fields = {
        "a": "double", "b": {"type": "int", "default": 7}, "c": "string", "d": ["null", "int"],
        "e": ["int", "null"], "f": {"type": "array", "items": "int"}, "g": fixed, "h": enum,
        "i": inner, "j": {"type": "map", "values": "int"}, "k": "boolean", "l": "bytes",
    }  # fmt: skip
    assert in_avro({"a": 1.5}, **fields) == {
        "a": 1.5, "b": 7, "c": "", "d": None, "e": None, "f": [], "g": bytes(4), "h": "LEFT",
        "i": {"i": 0}, "j": {}, "k": False, "l": b"",
    }  # fmt: skip


def test_values_get_the_types_of_the_schema() -> None:
    array = {"type": "array", "items": ["null", "float"]}
    found = in_avro(
        {"a": "1.5", "b": 2.6, "c": 7, "d": 0.5, "e": {"x": 1}},
        a="double", b="int", c=["null", "string"], d=array, e={"type": "map", "values": "double"},
    )  # fmt: skip
    assert found == {"a": 1.5, "b": 3, "c": "7", "d": [0.5], "e": {"x": 1.0}}


@pytest.mark.parametrize(
    ("time", "unit_ns"), [(US / 1e6, SECOND), (US / 1e3, 10**6), (US, 10**3), (US * 1000, 1)]
)
def test_times_have_the_unit_of_the_schema(time: float, unit_ns: int) -> None:
    for unit, per_us in (("micros", 1), ("nanos", 1000), ("millis", 1e-3)):
        kind = {"type": "long", "logicalType": f"timestamp-{unit}"}
        # fastavro would make a datetime of it.
        named: dict[str, Any] = {}
        fields = [{"name": "t", "type": kind}]
        schema = parse_schema({"type": "record", "name": "Message", "fields": fields}, named)
        encoded = AvroEncoder(schema, named, unit_ns).encode({"t": time})
        plain = {"type": "record", "name": "Message", "fields": [{"name": "t", "type": "long"}]}
        found = fastavro.schemaless_reader(io.BytesIO(encoded), plain, None)
        assert found == {"t": int(US * per_us)}
    descriptor = message_type(
        'syntax = "proto3"; import "google/protobuf/timestamp.proto";'
        "message Message { google.protobuf.Timestamp t = 1; }"
    )
    encoded = ProtobufEncoder(descriptor, unit_ns).encode({"t": time})
    message = new(descriptor)
    message.ParseFromString(encoded)
    assert message.t.ToNanoseconds() == US * 1000


PROTOBUF = """
syntax = "proto3";
package house;
enum Side { LEFT = 0; RIGHT = 1; }
message First { message Inner { message Last { } } }
message Second {
  message Inner { double x = 1; }
  message Other { }
  string text = 1;
  repeated Inner items = 2;
  map<int32, double> more = 3;
  Side side = 4;
  uint64 count = 5;
  bool flag = 6;
  repeated float numbers = 7;
}
"""


def test_protobuf_messages_are_filled() -> None:
    descriptor = message_type(PROTOBUF, "house.Second")
    document = {
        "text": 7, "items": [{"x": 1}, {"x": 2.5}], "more": {"3": 1}, "side": "RIGHT",
        "count": 6.7, "flag": True, "numbers": 0.5,
    }  # fmt: skip
    message = new(descriptor)
    message.ParseFromString(ProtobufEncoder(descriptor, SECOND).encode(document))
    assert message == new(
        descriptor, text="7", items=[{"x": 1}, {"x": 2.5}], more={3: 1}, side=1, count=7, flag=True,
        numbers=[0.5],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "indexes"),
    [
        ("house.First", (0,)),
        ("house.Second", (1,)),
        ("house.Second.Other", (1, 1)),
        ("house.First.Inner.Last", (0, 0, 0)),
    ],
)
def test_the_place_of_a_type(name: str, indexes: tuple[int, ...]) -> None:
    written = indexes_of(message_type(PROTOBUF, name))
    assert read_indexes(written + b"more") == (indexes, len(written))


def test_what_does_not_fit() -> None:
    with pytest.raises(SchemaError, match="a is one number there"):
        in_avro({"a": [1.0, 2.0]}, a="double")
    with pytest.raises(SchemaError, match="a has no field 'x' there"):
        in_avro({"a": {"x": 1.0}}, a="double")
    with pytest.raises(SchemaError, match="the message has no field 'b'"):
        in_avro({"b": 1.0}, a="double")
    with pytest.raises(SchemaError, match=r"set input\.time_unit"):
        in_avro({"a": "12:00"}, None, a={"type": "long", "logicalType": "timestamp-millis"})
    descriptor = message_type(PROTOBUF, "house.Second")
    for document, said in (
        ({"count": [1, 2]}, "count is one number"),
        ({"other": 1}, "house.Second has no field 'other'"),
        ({"items": [1.0]}, "house.Second.Inner is an object there"),
    ):
        with pytest.raises(SchemaError, match=said):
            ProtobufEncoder(descriptor, SECOND).encode(document)


def test_the_setting_is_named(tmp_path: Path) -> None:
    file = tmp_path / "one.avsc"
    fields = [{"name": name, "type": "double"} for name in ("timestamp", "accel_x")]
    file.write_text(json.dumps({"type": "record", "name": "One", "fields": fields}))
    writer = MessageWriter(InputSettings(format="avro", schema=file))
    with pytest.raises(SettingsError, match=r"input\.schema: .*one\.avsc: the message has no"):
        writer.write("a", TIME_US[:1], AXES_GIVEN[:1])
    file.write_text("{")
    with pytest.raises(SettingsError, match=r"input\.schema: .*one\.avsc: not an Avro schema"):
        MessageWriter(InputSettings(format="avro", schema=file))
    # Nothing listens on port 1.
    away = RegistrySettings(url="http://127.0.0.1:1")
    with pytest.raises(SettingsError, match=r"registry\.url: http://127\.0\.0\.1:1: "):
        MessageWriter(InputSettings(format="avro"), registry=away, topic="readings")
