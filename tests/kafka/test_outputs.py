"""Events, minutes, walks and counts on a real broker, as independent programs read them."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.json_format import MessageToDict

from stepstream.inputs.proto_files import compile_files
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.walkers import Walker
from tests.builders import encode, reading
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.outputs.published import Published

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from confluent_kafka import Message

    from tests.kafka.registry import SchemaRegistry

DEVICES = 3
SECONDS = 100
AGO_S = 400
"""How long before now the walks begin."""
KINDS = ("minutes", "walks", "counts")


def topics_of(bootstrap: str) -> TopicSet:
    """One partition, and records with the times of their readings."""
    return TopicSet.create(bootstrap, 1, all_outputs=True, own_times=True)


def walking() -> list[tuple[bytes, bytes, int]]:
    """Some who walk, and later a reading of another device: time goes on for all."""
    begin_s = int(time.time()) - AGO_S
    fleet = [Device(f"device-{n}", Walker(n, 80.0)) for n in range(DEVICES)]
    sent = [
        (message.key, message.value, round(1000 * json.loads(message.value)["timestamp"][-1]))
        for message in messages(fleet, begin_s, SECONDS, batch=40)
    ]
    later_s = begin_s + SECONDS + 110
    return [*sent, (b"other", encode(reading(timestamp=later_s)), later_s * 1000)]


def published(
    topics: TopicSet, folder: Path, read: Callable[[Message], dict[str, Any]], **more: str
) -> dict[str, list[dict[str, Any]]]:
    """What `run` publishes of some walks: values by kind of output."""
    topics.produce(walking())
    with RunProcess(topics, folder, **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
    names = {"events": topics.events, **topics.outputs}
    return {kind: [read(message) for message in topics.read(name)] for kind, name in names.items()}


def check(values: dict[str, list[dict[str, Any]]]) -> None:
    """Check that all are there and final, and what the steps give."""
    events = values.pop("events")
    assert len(events) > 100
    assert Published(events, values).faults() == []
    for kind in ("minutes", "walks"):
        assert sum(value["steps"] for value in values[kind]) == len(events)


def as_json(message: Message) -> dict[str, Any]:
    assert dict(message.headers() or [])["content-type"] == b"application/json"
    value: dict[str, Any] = json.loads(message.value() or b"")
    assert message.key() == value["device_id"].encode()
    return value


def test_minutes_walks_and_counts_are_what_the_steps_give(bootstrap: str, tmp_path: Path) -> None:
    check(published(topics_of(bootstrap), tmp_path, as_json))


def test_a_crash_between_the_steps_of_a_minute_changes_nothing(
    bootstrap: str, tmp_path: Path
) -> None:
    topics = topics_of(bootstrap)
    slow = {"STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "20"}
    sent = walking()
    part = len(sent) // 4
    for begin in range(0, 3 * part, part):
        topics.produce(sent[begin : begin + part])
        with RunProcess(topics, tmp_path, "same", **slow) as run:
            wait_until("a commit", partial(has_committed, topics, begin + 1))
            run.kill()
    topics.produce(sent[3 * part :])
    with RunProcess(topics, tmp_path, "same") as run:
        run.wait_for_log("partition started")
        topics.wait_consumed()
        assert run.terminate() == 0
    names = {"events": topics.events, **topics.outputs}
    check({kind: topics.read_values(name) for kind, name in names.items()})


def has_committed(topics: TopicSet, least: int) -> bool:
    return sum(topics.committed().values()) >= least


def test_the_sdk_reads_cloudevents(bootstrap: str, tmp_path: Path) -> None:
    topics = topics_of(bootstrap)
    ids: list[tuple[str, str]] = []

    def read(message: Message) -> dict[str, Any]:
        headers: Any = dict(message.headers() or [])
        raw = KafkaMessage(headers, message.key(), message.value() or b"")
        event = from_binary(raw, JSONFormat())
        assert event.get_specversion() == "1.0"
        assert event.get_datacontenttype() == "application/json"
        assert event.get_source() == f"/stepstream/{topics.readings}"
        assert event.get_subject() == (message.key() or b"").decode()
        ids.append((event.get_type(), event.get_id()))
        value = event.get_data()
        assert isinstance(value, dict)
        ended_at = value.get("ended_at", value.get("last_step_at"))
        moment = event.get_time()
        assert moment is not None
        assert ended_at is None or abs(moment.timestamp() - ended_at) < 1e-3
        return value

    check(published(topics, tmp_path, read, STEPSTREAM_OUTPUT__CLOUDEVENTS="true"))
    assert len(ids) == len(set(ids))
    assert {kind for kind, _ in ids} == {
        f"stepstream.{kind}" for kind in ("step", "minute", "walk", "count")
    }


def test_records_have_the_time_of_their_event_if_it_is_asked_for(
    bootstrap: str, tmp_path: Path
) -> None:
    def read(message: Message) -> dict[str, Any]:
        value = as_json(message)
        ended_at = value.get("ended_at", value.get("last_step_at"))
        if ended_at is not None:
            assert message.timestamp()[1] == pytest.approx(1000 * ended_at, abs=1)
        return value

    more = {"STEPSTREAM_OUTPUT__RECORD_TIME": "event"}
    check(published(topics_of(bootstrap), tmp_path, read, **more))


def schema_of(registry: SchemaRegistry, value: bytes) -> str:
    """The schema of a message, by its id."""
    number = int.from_bytes(value[1:5])
    with urllib.request.urlopen(f"{registry.url}/schemas/ids/{number}") as answer:  # noqa: S310 - it is http
        text: str = json.load(answer)["schema"]
    return text


def test_fastavro_reads_avro_with_the_registry(
    bootstrap: str, registry: SchemaRegistry, tmp_path: Path
) -> None:
    def read(message: Message) -> dict[str, Any]:
        value = message.value() or b""
        assert dict(message.headers() or [])["content-type"] == b"application/avro"
        assert value[:1] == b"\0"
        number = value[1:5]
        if number not in schemas:
            schemas[number] = fastavro.parse_schema(json.loads(schema_of(registry, value)))
        content = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[number], None)
        assert isinstance(content, dict)
        return content

    schemas: dict[bytes, Any] = {}
    topics = topics_of(bootstrap)
    more = {"STEPSTREAM_OUTPUT__FORMAT": "avro", "STEPSTREAM_REGISTRY__URL": registry.url}
    check(published(topics, tmp_path, read, **more))
    subjects = {f"{name}-value" for name in (topics.events, *topics.outputs.values())}
    assert subjects <= set(registry.client.get_subjects())


def test_confluents_deserializer_reads_protobuf_with_the_registry(
    bootstrap: str, registry: SchemaRegistry, tmp_path: Path
) -> None:
    from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

    def read(message: Message) -> dict[str, Any]:
        value = message.value() or b""
        number = value[1:5]
        if number not in readers:
            file = compile_files(schema_of(registry, value), {})
            (descriptor,) = file.message_types_by_name.values()
            readers[number] = ProtobufDeserializer(
                GetMessageClass(descriptor), {"use.deprecated.format": False}
            )
        context = SerializationContext(message.topic() or "", MessageField.VALUE)
        parsed: Any = readers[number](value, context)
        content = MessageToDict(parsed, preserving_proto_field_name=True)
        for name in ("steps", "step_count"):
            if name in content:
                content[name] = int(content[name])
        return content

    readers: dict[bytes, ProtobufDeserializer] = {}
    more = {"STEPSTREAM_OUTPUT__FORMAT": "protobuf", "STEPSTREAM_REGISTRY__URL": registry.url}
    check(published(topics_of(bootstrap), tmp_path, read, **more))
