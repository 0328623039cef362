"""Messages with schemas of a real registry, written by Confluent's own serializers."""

from __future__ import annotations

import json
from itertools import cycle
from typing import TYPE_CHECKING, Any

from confluent_kafka.schema_registry import Schema, SchemaReference
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from stepstream.inputs.protobuf import find_message, load_descriptors
from tests.inputs.forms import AXES, BATCH, DEVICE, NESTED, Form, columns, nested, vector
from tests.inputs.protobuf_types import compile_set, new

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.inputs.forms import Row
    from tests.kafka.registry import SchemaRegistry

    Serialize = Callable[[dict[str, Any]], bytes]

DRAFT = "http://json-schema.org/draft-07/schema#"
IN_SAMPLES = {
    "readings": "samples",
    "device_id": "device",
    "fields": {
        **{f"accel_{axis}": f"acc.{axis}" for axis in "xyz"},
        **{f"gyro_{axis}": f"gyr.{axis}" for axis in "xyz"},
    },
}


def _times(name: str) -> dict[str, Any]:
    return {**IN_SAMPLES, "fields": {**IN_SAMPLES["fields"], "timestamp": name}}  # type: ignore[dict-item]


def avro_record(name: str = "Batch", /, **fields: Any) -> dict[str, Any]:
    listed = [{"name": field, "type": kind} for field, kind in fields.items()]
    return {"type": "record", "name": name, "namespace": "house.sensors", "fields": listed}


def avro_array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


MICROSECONDS = {"type": "long", "logicalType": "timestamp-micros"}


def avro(registry: SchemaRegistry, topic: str, schema: dict[str, Any] | Schema) -> Serialize:
    given = schema if isinstance(schema, Schema) else json.dumps(schema)
    serializer = AvroSerializer(registry.client, given)
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda content: serializer(content, context) or b""


def avro_versions(registry: SchemaRegistry, topic: str) -> list[Serialize]:
    """Of columns: three versions of a schema, as devices have them after two updates."""
    first = avro_record(timestamp=avro_array("double"), **dict.fromkeys(AXES, avro_array("double")))
    second = avro_record(
        battery="int",
        timestamp=avro_array("double"),
        **dict.fromkeys(AXES, avro_array("float")),
        note=["null", "string"],
    )
    third = avro_record(
        timestamp=avro_array(MICROSECONDS),
        **{axis: ["null", avro_array("float")] for axis in AXES},
    )
    one, two, three = (avro(registry, topic, schema) for schema in (first, second, third))
    return [
        one,
        lambda c: two({**c, "battery": 93, "note": "ä"}),
        lambda c: three({**c, "timestamp": [round(at * 1e6) for at in c["timestamp"]]}),
    ]


def _avro_in_turn(registry: SchemaRegistry, topic: str) -> Serialize:
    versions = cycle(avro_versions(registry, topic))

    def serialize(content: dict[str, Any]) -> bytes:
        return next(versions)(content)

    return serialize


def _avro_one_reading(registry: SchemaRegistry, topic: str) -> Serialize:
    three = avro_record("Vector", x="double", y="double", z="double")
    schema = avro_record(
        "Reading", ts=MICROSECONDS, acc=three,
        gyro=["null", "house.sensors.Vector"],
    )  # fmt: skip
    return avro(registry, topic, schema)


def _avro_references(registry: SchemaRegistry, topic: str) -> Serialize:
    three = avro_record("Vector", x="float", y="float", z="float")
    registry.client.register_schema("vector-value", Schema(json.dumps(three), "AVRO"))
    item = avro_record("Item", t="double", acc="house.sensors.Vector", gyr="house.sensors.Vector")
    schema = Schema(
        json.dumps(avro_record(device="string", samples=avro_array(item))),
        "AVRO",
        [SchemaReference("house.sensors.Vector", "vector-value", 1)],
    )
    return avro(registry, topic, schema)


PACKED = f"""
syntax = "proto3";
package house;
message Other {{ string text = 1; }}
message Batch {{
  repeated double timestamp = 1;
  {" ".join(f"repeated float {axis} = {number};" for number, axis in enumerate(AXES, 2))}
}}
"""
ONE_READING = """
syntax = "proto3";
package house;
message Reading {
  message Vector { double x = 1; double y = 2; double z = 3; }
  uint64 ts = 1;
  Vector acc = 2;
  optional Vector gyro = 3;
}
"""
WITH_IMPORTS = """
syntax = "proto3";
package house;
import "google/protobuf/timestamp.proto";
import "0.proto";
message Reading {
  google.protobuf.Timestamp at = 1;
  Vector acc = 2;
  Vector gyr = 3;
}
message Batch { string device = 1; repeated Reading samples = 2; }
"""
VECTOR = """
syntax = "proto3";
package house;
message Vector { float x = 1; float y = 2; float z = 3; }
"""


def _packed_protobuf(registry: SchemaRegistry, topic: str) -> Serialize:
    return _protobuf(registry, topic, "house.Batch", PACKED)


def _protobuf_one_reading(registry: SchemaRegistry, topic: str) -> Serialize:
    return _protobuf(registry, topic, "house.Reading", ONE_READING)


def _protobuf(registry: SchemaRegistry, topic: str, name: str, source: str) -> Serialize:
    descriptor = find_message(load_descriptors(compile_set(source))[0], name)
    serializer = ProtobufSerializer(type(new(descriptor)), registry.client)
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda content: serializer(new(descriptor, **content), context) or b""


def _protobuf_with_imports(registry: SchemaRegistry, topic: str) -> Serialize:
    client = registry.client
    descriptor = find_message(load_descriptors(compile_set(VECTOR, WITH_IMPORTS))[0], "house.Batch")
    client.register_schema("house-vector", Schema(VECTOR, "PROTOBUF"))
    references = [SchemaReference("0.proto", "house-vector", 1)]
    number = client.register_schema(f"{topic}-value", Schema(WITH_IMPORTS, "PROTOBUF", references))
    # The place of the type: the list of one index, 1.
    head = b"\0" + number.to_bytes(4) + b"\x02\x02"
    return lambda content: head + new(descriptor, **content).SerializeToString()


def _json(registry: SchemaRegistry, topic: str) -> Serialize:
    schema = {"$schema": DRAFT, "title": "Reading", "type": "object"}
    serializer = JSONSerializer(json.dumps(schema), registry.client)
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda content: serializer(content, context) or b""


def _samples(rows: list[Row], time: Callable[[int], Any], name: str) -> dict[str, Any]:
    return {
        "device": DEVICE,
        "samples": [
            {name: time(row.time_us), "acc": vector(row.accel), "gyr": vector(row.gyro)}
            for row in rows
        ],
    }


def _in_us(rows: list[Row]) -> dict[str, Any]:
    return {**nested(rows[0]), "ts": rows[0].time_us}


def _as_timestamp(time_us: int) -> dict[str, int]:
    return {"seconds": time_us // 10**6, "nanos": time_us % 10**6 * 1000}


def schema_forms(registry: SchemaRegistry, topic_of: Callable[[str], str]) -> dict[str, Form]:
    """Forms of messages with a schema; each is registered for the form's topic."""

    def form(
        name: str, write: Callable[[list[Row]], Any], settings: dict[str, Any], batch: int,
        make: Callable[[SchemaRegistry, str], Serialize],
    ) -> tuple[str, Form]:  # fmt: skip
        return name, Form(write, settings, batch, encode=make(registry, topic_of(name)))

    one = {"fields": NESTED}
    return dict(
        [
            form("Avro of three versions", columns, {"format": "avro"}, BATCH, _avro_in_turn),
            form("Avro, one reading", _in_us, {"format": "avro", **one}, 1, _avro_one_reading),
            form(
                "Avro that refers to other schemas",
                lambda rows: _samples(rows, lambda time_us: time_us / 1e6, "t"),
                {"format": "avro", **_times("t")},
                BATCH,
                _avro_references,
            ),
            form(
                "packed Protobuf whose type is not the first",
                columns,
                {"format": "protobuf"},
                BATCH,
                _packed_protobuf,
            ),
            form(
                "Protobuf, one reading",
                _in_us,
                {"format": "protobuf", "time_unit": "us", **one},
                1,
                _protobuf_one_reading,
            ),
            form(
                "Protobuf with imports and times",
                lambda rows: _samples(rows, _as_timestamp, "at"),
                {"format": "protobuf", "message_type": "house.Batch", **_times("at")},
                BATCH,
                _protobuf_with_imports,
            ),
            form("JSON with a schema", columns, {"format": "json-schema"}, BATCH, _json),
            form(
                "JSON with a schema, one reading",
                lambda rows: nested(rows[0]),
                {"format": "json-schema", **one},
                1,
                _json,
            ),
        ]
    )
