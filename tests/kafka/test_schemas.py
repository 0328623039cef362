"""Messages whose schema is not there: unknown, unusable, or the registry is away."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.schema_registry import (
    Schema,
    SchemaRegistryClient,
    header_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.faults.proxy import Proxy
from tests.inputs.forms import AXES
from tests.kafka.broker import free_port
from tests.kafka.builders import DEADLINE_S, RunProcess, TopicSet, fetch, wait_until
from tests.kafka.expected import expected_steps
from tests.kafka.played import by_device
from tests.kafka.registry import environment, url_at
from tests.kafka.schema_forms import DRAFT, avro_array, avro_record, avro_versions
from tests.kafka.test_run import headers_of, walk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry
    from tests.kafka.schema_forms import Serialize

DEVICES = 3
SECONDS = 12.0
READINGS = 20
"""In a message."""
PATIENT = {"STEPSTREAM_PROCESSING__IDLE_TIMEOUT_S": "120"}
"""A device that sends nothing while the test waits doesn't start anew, on any machine."""


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


def waiting_partitions(port: int) -> float:
    lines = fetch(port, "/metrics")[1].splitlines()
    name = "stepstream_registry_waiting_partitions"
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def test_a_registry_that_is_away_makes_nothing_a_dead_letter(
    topics: TopicSet, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    versions = avro_versions(registry, topics.readings)
    messages = walked.written(versions[0])
    half = len(messages) // 2
    newer = walked.written(versions[1])[half:]
    port, address = free_port(), f"127.0.0.1:{free_port()}"
    given = {**environment(url_at(address), format="avro"), **PATIENT}
    with Proxy(address, registry.address) as proxy:
        proxy.refuse()
        topics.produce(messages[:half])
        with RunProcess(topics, tmp_path, **given, STEPSTREAM_HTTP__PORT=str(port)) as run:
            run.wait_for_log("partitions wait for the schema registry")
            assert fetch(port, "/livez")[0] == 200
            status, body = fetch(port, "/readyz")
            assert (status, "wait for the schema registry" in body) == (503, True)
            assert waiting_partitions(port) > 0
            assert not topics.read_events()
            proxy.accept()
            topics.wait_consumed()
            wait_until("ready again", lambda: fetch(port, "/readyz")[0] == 200)
            assert waiting_partitions(port) == 0
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
    given = {**environment(url_at(address), format="avro"), **PATIENT}
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


GUID = "89791762-2336-4186-9674-299b90a802e2"


class RegistryWithGuids(BaseHTTPRequestHandler):
    """What Confluent's registry answers, which Apicurio's doesn't, about one schema."""

    schema = ""

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["content-length"])))
        RegistryWithGuids.schema = content["schema"]
        self._answer()

    def do_GET(self) -> None:
        if self.path.endswith(f"/schemas/guids/{GUID}"):
            self._answer()
        else:
            self.send_error(404)

    def _answer(self) -> None:
        answer = {"id": 1, "version": 1, "guid": GUID, "schema": self.schema}
        body = json.dumps({**answer, "subject": "any", "schemaType": "AVRO"}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def with_guids() -> Iterator[str]:
    """Address of such a registry."""
    with ThreadingHTTPServer(("127.0.0.1", 0), RegistryWithGuids) as server:
        thread = Thread(target=server.serve_forever, name="registry", daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def send_by_headers(topics: TopicSet, url: str, walked: Walk) -> int:
    """Send everything as Confluent's serializer writes it with the schema in a header."""
    schema = avro_record(timestamp=avro_array("double"), **dict.fromkeys(AXES, avro_array("float")))
    conf = {"schema.id.serializer": header_schema_id_serializer}
    producer = Producer({"bootstrap.servers": topics.bootstrap, "partitioner": "murmur2_random"})
    with SchemaRegistryClient({"url": url}) as client:
        serializer = AvroSerializer(client, json.dumps(schema), conf=conf)
        for key, columns in walked.messages:
            headers: list[Any] = []
            context = SerializationContext(topics.readings, MessageField.VALUE, headers)
            producer.produce(topics.readings, serializer(columns, context), key, headers=headers)
            assert [name for name, _ in headers] == ["__value_schema_id"]
    assert producer.flush(DEADLINE_S) == 0
    return len(walked.messages)


def test_schemas_that_headers_name(
    topics: TopicSet, with_guids: str, walked: Walk, tmp_path: Path
) -> None:
    send_by_headers(topics, with_guids, walked)
    with RunProcess(topics, tmp_path, **environment(with_guids, format="avro")) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert not topics.read(topics.dead_letters)
    assert by_device(topics.read_events()) == walked.expected


def test_a_registry_without_guids_makes_dead_letters_that_say_so(
    topics: TopicSet, with_guids: str, registry: SchemaRegistry, walked: Walk, tmp_path: Path
) -> None:
    count = send_by_headers(topics, with_guids, walked)
    given = environment(registry.url, format="avro")
    given["STEPSTREAM_PROCESSING__ON_DEAD_LETTER_LIMIT"] = "continue"
    with RunProcess(topics, tmp_path, **given) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    letters = [headers_of(letter) for letter in topics.read(topics.dead_letters)]
    assert [one["stepstream-error"] for one in letters] == [b"unknown-schema"] * count
    said = f"schema {GUID}: the registry has no schemas by GUID".encode()
    assert {one["stepstream-error-detail"] for one in letters} == {said}
