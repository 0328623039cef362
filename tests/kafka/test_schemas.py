"""Messages with schemas of a real registry, written by Confluent's own serializers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.faults.proxy import Proxy
from tests.inputs.protobuf_types import compile_set, new
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.expected import expected_steps
from tests.kafka.played import by_device
from tests.kafka.registry import SchemaRegistry, environment, url_at
from tests.kafka.test_run import headers_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Serialize = Callable[[dict[str, list[float]]], bytes]

AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
DRAFT = "http://json-schema.org/draft-07/schema#"
DEVICES = 3
SECONDS = 12.0
READINGS = 20
"""In a message."""


class Walk:
    """Simulated walkers, and the steps that `detect` finds."""

    def __init__(self) -> None:
        self.messages = [
            (key, json.loads(value)) for key, value in walk(DEVICES, SECONDS, READINGS)
        ]

    @property
    def expected(self) -> dict[str, list[tuple[Any, ...]]]:
        sent: dict[bytes, list[bytes]] = {}
        for key, columns in self.messages:
            sent.setdefault(key, []).append(json.dumps(columns).encode())
        return expected_steps(sent)

    def written(self, *serializers: Serialize) -> list[tuple[bytes, bytes]]:
        """Keys and values, by all serializers in turn."""
        return [
            (key, serializers[number % len(serializers)](columns))
            for number, (key, columns) in enumerate(self.messages)
        ]


@pytest.fixture(scope="module")
def walked() -> Walk:
    return Walk()


def avro_record(**fields: Any) -> dict[str, Any]:
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": "Batch", "namespace": "house.sensors", "fields": listed}


def avro_array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def avro(registry: SchemaRegistry, topic: str, schema: dict[str, Any], change: Any) -> Serialize:
    client = registry.client
    serializer = AvroSerializer(client, json.dumps(schema))
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda columns: serializer(change(columns), context) or b""


def avro_versions(registry: SchemaRegistry, topic: str) -> list[Serialize]:
    """Three versions of a schema, as devices have them after two updates."""
    first = avro_record(timestamp=avro_array("double"), **dict.fromkeys(AXES, avro_array("double")))
    second = avro_record(
        battery="int",
        timestamp=avro_array("double"),
        **dict.fromkeys(AXES, avro_array("float")),
        note=["null", "string"],
    )
    time = {"type": "long", "logicalType": "timestamp-micros"}
    third = avro_record(
        timestamp=avro_array(time), **{axis: ["null", avro_array("float")] for axis in AXES}
    )

    def in_microseconds(columns: dict[str, list[float]]) -> dict[str, Any]:
        return {**columns, "timestamp": [round(at * 1e6) for at in columns["timestamp"]]}

    return [
        avro(registry, topic, first, dict),
        avro(registry, topic, second, lambda c: {**c, "battery": 93, "note": "ä"}),
        avro(registry, topic, third, in_microseconds),
    ]


def run_to_the_end(topics: TopicSet, folder: Path, given: Any) -> dict[str, list[tuple[Any, ...]]]:
    with RunProcess(topics, folder, **given) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
    return by_device(topics.read_events())


def test_avro_of_three_versions_in_turn(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    topics.produce(walked.written(*avro_versions(registry, topics.readings)))
    given = environment(registry.url, format="avro")
    assert run_to_the_end(topics, tmp_path, given) == walked.expected


def test_avro_that_refers_to_other_schemas(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    client = registry.client
    vector = avro_record(x="float", y="float", z="float")
    vector["name"] = "Vector"
    client.register_schema("vector-value", Schema(json.dumps(vector), "AVRO"))
    item = avro_record(t="double", acc="house.sensors.Vector", gyr="house.sensors.Vector")
    item["name"] = "Item"
    schema = Schema(
        json.dumps(avro_record(device="string", samples=avro_array(item))),
        "AVRO",
        [SchemaReference("house.sensors.Vector", "vector-value", 1)],
    )
    serializer = AvroSerializer(client, schema)
    context = SerializationContext(topics.readings, MessageField.VALUE)

    def serialize(columns: dict[str, list[float]]) -> bytes:
        rows = [
            {
                "t": columns["timestamp"][row],
                "acc": {axis: columns[f"accel_{axis}"][row] for axis in "xyz"},
                "gyr": {axis: columns[f"gyro_{axis}"][row] for axis in "xyz"},
            }
            for row in range(len(columns["timestamp"]))
        ]
        return serializer({"device": columns["device_id"], "samples": rows}, context) or b""

    topics.produce([(b"ignored", value) for _, value in walked.written(serialize)])
    places = {f"accel_{axis}": f"acc.{axis}" for axis in "xyz"}
    places |= {f"gyro_{axis}": f"gyr.{axis}" for axis in "xyz"}
    given = environment(
        registry.url,
        format="avro",
        readings="samples",
        device_id="device",
        fields=json.dumps({"timestamp": "t", **places}),
    )
    assert run_to_the_end(topics, tmp_path, given) == walked.expected


PROTOBUF = f"""
syntax = "proto3";
package house;
message Other {{ string text = 1; }}
message Batch {{
  repeated double timestamp = 1;
  {" ".join(f"repeated float {axis} = {number};" for number, axis in enumerate(AXES, 2))}
}}
"""
NESTED = """
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


def protobuf_type(name: str, *sources: str) -> Any:
    from stepstream.inputs.protobuf import find_message, load_descriptors  # noqa: PLC0415

    return find_message(load_descriptors(compile_set(*sources))[0], name)


def test_packed_protobuf_whose_type_is_not_the_first(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    descriptor = protobuf_type("house.Batch", PROTOBUF)
    serializer = ProtobufSerializer(type(new(descriptor)), registry.client)
    context = SerializationContext(topics.readings, MessageField.VALUE)

    def serialize(columns: dict[str, list[float]]) -> bytes:
        fields = {name: columns[name] for name in ("timestamp", *AXES)}
        return serializer(new(descriptor, **fields), context) or b""

    topics.produce(walked.written(serialize))
    given = environment(registry.url, format="protobuf")
    assert run_to_the_end(topics, tmp_path, given) == walked.expected


def test_protobuf_with_imports_and_times(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    client = registry.client
    descriptor = protobuf_type("house.Batch", VECTOR, NESTED)
    client.register_schema("house-vector", Schema(VECTOR, "PROTOBUF"))
    references = [SchemaReference("0.proto", "house-vector", 1)]
    subject = f"{topics.readings}-value"
    schema_id = client.register_schema(subject, Schema(NESTED, "PROTOBUF", references))

    def serialize(columns: dict[str, list[float]]) -> bytes:
        message = new(descriptor, device=columns["device_id"])
        for row, at in enumerate(columns["timestamp"]):
            sample = message.samples.add()
            sample.at.FromNanoseconds(round(at * 1e6) * 1000)
            for axis in "xyz":
                setattr(sample.acc, axis, columns[f"accel_{axis}"][row])
                setattr(sample.gyr, axis, columns[f"gyro_{axis}"][row])
        # The place of the type: the list of one index, 1.
        framed: bytes = b"\0" + schema_id.to_bytes(4) + b"\x02\x02" + message.SerializeToString()
        return framed

    topics.produce([(b"ignored", value) for _, value in walked.written(serialize)])
    places = {f"accel_{axis}": f"acc.{axis}" for axis in "xyz"}
    places |= {f"gyro_{axis}": f"gyr.{axis}" for axis in "xyz"}
    given = environment(
        registry.url,
        format="protobuf",
        readings="samples",
        device_id="device",
        fields=json.dumps({"timestamp": "at", **places}),
        message_type="house.Batch",
    )
    assert run_to_the_end(topics, tmp_path, given) == walked.expected


def test_json_with_a_schema(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    schema = {"$schema": DRAFT, "title": "Batch", "type": "object"}
    serializer = JSONSerializer(json.dumps(schema), registry.client)
    context = SerializationContext(topics.readings, MessageField.VALUE)
    topics.produce(walked.written(lambda columns: serializer(columns, context) or b""))
    given = environment(registry.url, format="json-schema")
    assert run_to_the_end(topics, tmp_path, given) == walked.expected


def test_what_has_no_known_schema_becomes_a_dead_letter(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    versions = avro_versions(registry, topics.readings)
    key, value = walked.written(versions[0])[0]
    other_kind = registry.client.register_schema(
        f"{topics.readings}-other", Schema(json.dumps({"$schema": DRAFT, "type": "object"}), "JSON")
    )
    poison = [
        (b"\0" + (1 << 30).to_bytes(4) + value[5:], "unknown-schema"),
        (b"\0" + b"\xff" * 4 + value[5:], "unknown-schema"),
        (b"\0" + other_kind.to_bytes(4) + value[5:], "unknown-schema"),
        (b"{}", "invalid-encoding"),
        (b"{" + value[1:], "invalid-encoding"),
        (value[:-1], "invalid-encoding"),
        (value + b"\0", "invalid-encoding"),
        (b"\0", "invalid-encoding"),
        (None, "null-value"),
    ]
    good = walked.written(*versions)
    mixed: list[tuple[bytes | None, bytes | None]] = [*good]
    for place, (bad, _) in enumerate(poison):
        mixed.insert(place * 7, (key, bad))
    topics.produce(mixed)
    with RunProcess(topics, tmp_path, **environment(registry.url, format="avro")) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    letters = topics.read(topics.dead_letters)
    found = [(m.value(), headers_of(m)["stepstream-error"].decode()) for m in letters]
    assert sorted(found, key=str) == sorted(poison, key=str)
    assert by_device(topics.read_events()) == walked.expected


def test_a_registry_that_is_away_makes_nothing_a_dead_letter(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    versions = avro_versions(registry, topics.readings)
    messages = walked.written(versions[0])
    half = len(messages) // 2
    newer = walked.written(versions[1])[half:]
    port, address = free_port(), f"127.0.0.1:{free_port()}"
    given = environment(url_at(address), format="avro")
    with Proxy(address, registry.address) as proxy:
        proxy.refuse()
        topics.produce(messages[:half])
        with RunProcess(topics, tmp_path, **given, STEPSTREAM_HTTP__PORT=str(port)) as run:
            run.wait_for_log("partitions wait for the schema registry")
            assert fetch(port, "/livez")[0] == 200
            status, body = fetch(port, "/readyz")
            assert (status, "wait for the schema registry" in body) == (503, True)
            assert not topics.read_events()
            proxy.accept()
            topics.wait_consumed()
            wait_until("ready again", lambda: fetch(port, "/readyz")[0] == 200)
            # A newer schema comes while the registry is slow, then away, then there.
            proxy.delay_s = 0.5
            topics.produce(newer[: len(newer) // 2])
            topics.wait_consumed()
            proxy.refuse()
            topics.produce(newer[len(newer) // 2 :])
            topics.wait_consumed()
            assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
    assert by_device(topics.read_events()) == walked.expected


def test_a_consumer_that_dies_while_the_registry_is_away_loses_and_repeats_nothing(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    versions = avro_versions(registry, topics.readings)
    messages = walked.written(versions[0])
    half = len(messages) // 2
    address = f"127.0.0.1:{free_port()}"
    given = environment(url_at(address), format="avro")
    with Proxy(address, registry.address) as proxy:
        topics.produce(messages[:half])
        with RunProcess(topics, tmp_path, "first", **given) as run:
            topics.wait_consumed()
            proxy.refuse()
            topics.produce(walked.written(versions[2])[half:])
            run.wait_for_log("partitions wait for the schema registry")
            run.kill()
        # The successor can't even replay.
        with RunProcess(topics, tmp_path, "second", **given) as run:
            run.wait_for_log("partitions wait for the schema registry")
            proxy.accept()
            topics.wait_consumed()
            assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
    assert by_device(topics.read_events()) == walked.expected


def test_other_topics_go_on_while_the_registry_is_away(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    plain = TopicSet.create(topics.bootstrap)
    address = f"127.0.0.1:{free_port()}"
    versions = avro_versions(registry, topics.readings)
    both = {
        "STEPSTREAM_TOPICS__READINGS": f"{topics.readings},{plain.readings}",
        "STEPSTREAM_INPUTS": json.dumps({topics.readings: {"format": "avro"}}),
        **environment(url_at(address)),
    }
    with Proxy(address, registry.address) as proxy:
        proxy.refuse()
        topics.produce(walked.written(versions[0]))
        with RunProcess(topics, tmp_path, **both) as run:
            run.wait_for_log("partitions wait for the schema registry")
            plain.produce([(key, json.dumps(value).encode()) for key, value in walked.messages])
            count = sum(map(len, walked.expected.values()))
            wait_until("all steps of the plain topic", lambda: len(topics.read_events()) == count)
            proxy.accept()
            wait_until("all steps", lambda: len(topics.read_events()) == 2 * count)
            assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
