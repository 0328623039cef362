"""All forms of messages through a broker, and those with a schema by a registry, in one consumer.

Each is a topic of its own, with poison among its messages; the events are those of `detect` on the
same recording.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stepstream.detection import Model, Rules, default_model_path, detect_series
from stepstream.inputs.framing import frame
from stepstream.outputs import encode_value
from stepstream.settings import ProcessingSettings, TopicSettings
from stepstream.streaming.counting import count_steps
from stepstream.streaming.topics import create_topics
from tests.builders import load_walk
from tests.inputs.forms import FORMS
from tests.kafka.builders import DEADLINE_S, RunProcess, TopicSet, wait_until
from tests.kafka.played import by_device
from tests.kafka.schema_forms import schema_forms
from tests.kafka.test_run import headers_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.inputs.forms import Form, Row
    from tests.kafka.played import Step
    from tests.kafka.registry import SchemaRegistry
    from tests.streaming.records import FakeRecord

SECONDS = 25
OF_REGISTRY = (
    "Avro of three versions",
    "Avro, one reading",
    "Avro that refers to other schemas",
    "packed Protobuf whose type is not the first",
    "Protobuf, one reading",
    "Protobuf with imports and times",
    "JSON with a schema",
    "JSON with a schema, one reading",
)
ALL = (*FORMS, *OF_REGISTRY)


class Poison(NamedTuple):
    """A value that can't be read, and the code of its dead letter."""

    value: bytes | None
    code: str


class Published(NamedTuple):
    """What came of a form's messages, and what should: steps as `by_device` gives them."""

    events: dict[str, list[Step]]
    expected: dict[str, list[Step]]
    poison: list[Poison]
    dead_letters: list[Poison]


@pytest.fixture(scope="module")
def published(
    bootstrap: str,
    registry: SchemaRegistry,
    recordings: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Published]:
    """Every form, sent to a topic of its own."""
    outputs = TopicSet.named(bootstrap, 1)
    inputs = {
        name: replace(outputs, readings=f"{outputs.readings}-{number}")
        for number, name in enumerate(ALL)
    }
    forms = {**FORMS, **schema_forms(registry, lambda name: inputs[name].readings)}
    assert tuple(forms) == ALL
    _create(outputs, inputs)
    walk = _walk(recordings, int(time.time() - 60) * 10**6)
    rows = {name: form.rows(*walk) for name, form in forms.items()}
    poison = {name: _poison(form, rows[name]) for name, form in forms.items()}
    counts = _send(
        bootstrap, {inputs[n].readings: (forms[n].records(rows[n]), poison[n]) for n in ALL}
    )
    given = {
        "STEPSTREAM_TOPICS__READINGS": ",".join(one.readings for one in inputs.values()),
        "STEPSTREAM_INPUTS": json.dumps({inputs[n].readings: forms[n].settings for n in ALL}),
        "STEPSTREAM_REGISTRY__URL": registry.url,
        "STEPSTREAM_PROCESSING__ON_DEAD_LETTER_LIMIT": "continue",
    }
    with RunProcess(outputs, tmp_path_factory.mktemp("run"), **given) as run:
        wait_until(
            "all is committed",
            lambda: run.exit_code is not None or outputs.committed_in(counts) == counts,
        )
        assert run.terminate() == 0, run.log.read_text()
    events: dict[str, list[dict[str, Any]]] = {}
    for event in outputs.read_events():
        events.setdefault(event["event_id"].rsplit("-", 3)[0], []).append(event)
    letters: dict[str, list[Poison]] = {}
    for letter in outputs.read(outputs.dead_letters):
        headers = headers_of(letter)
        topic = headers["stepstream-topic"].decode()
        refused = Poison(letter.value(), headers["stepstream-error"].decode())
        letters.setdefault(topic, []).append(refused)
    model = Model(default_model_path())
    return {
        name: Published(
            by_device(events.get(inputs[name].readings, [])),
            _detected(model, form.device_id, rows[name]),
            poison[name],
            letters.get(inputs[name].readings, []),
        )
        for name, form in forms.items()
    }


def _create(outputs: TopicSet, inputs: dict[str, TopicSet]) -> None:
    settings = outputs.settings()
    named = tuple(one.readings for one in inputs.values())
    # A change of the configuration would take effect some time later.
    with_own_times = NewTopic(inputs["the record's time"].readings, 1, 1)
    admin = AdminClient({"bootstrap.servers": outputs.bootstrap})
    admin.create_topics([with_own_times])[with_own_times.topic].result()
    create_topics(settings.kafka, TopicSettings(**{**dict(settings.topics), "readings": named}))


def _walk(recordings: Path, begin_us: int) -> tuple[Any, Any]:
    """People who walk, 80 Hz."""
    time_s, axes = load_walk(recordings)
    rows = slice(15 * 80, (15 + SECONDS) * 80)
    time_us = begin_us + np.rint((time_s[rows] - time_s[rows][0]) * 1e6).astype(np.int64)
    return time_us, axes[rows].astype(np.float64)


def _send(
    bootstrap: str, sent: dict[str, tuple[Iterable[FakeRecord], list[Poison]]]
) -> dict[str, int]:
    """Send messages to some topics, with poison in the middle; how many there are in each."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20})
    counts = {}
    for topic, (good, poison) in sent.items():
        records = list(good)
        middle = len(records) // 2
        bad = [replace(records[middle], message_value=one.value) for one in poison]
        records[middle:middle] = bad
        for record in records:
            producer.produce(
                topic,
                record.value(),
                record.key(),
                headers=list(record.headers()),
                timestamp=record.time_ms,
            )
        counts[topic] = len(records)
        producer.poll(0)
    assert producer.flush(DEADLINE_S) == 0
    return counts


def _poison(form: Form, rows: list[Row]) -> list[Poison]:
    """What is no message in a form."""
    kind = form.settings.get("format", "json")
    value = next(form.records(rows)).value() or b""
    wrong = "invalid-json" if kind in {"json", "json-schema"} else "invalid-encoding"
    poison = [Poison(None, "null-value")]
    poison += [Poison(one, wrong) for one in (value[:-1], b"", b"\xff" * 9)]
    if kind in {"avro", "protobuf"}:
        poison.append(Poison(frame(1 << 30) + value[5:], "unknown-schema"))
        poison.append(Poison(b"\2" + value[1:], wrong))
    return poison


def _detected(model: Model, device_id: str, rows: list[Row]) -> dict[str, list[Step]]:
    settings = ProcessingSettings()
    steps = detect_series(
        model,
        np.array([row.time_us for row in rows]),
        np.array([(*row.accel, *row.gyro) for row in rows], np.float32),
        Rules.of(settings),
    )
    events = count_steps(device_id, steps, model, settings)[1]
    return by_device(json.loads(encode_value(event)) for event in events)


@pytest.mark.parametrize("name", ALL)
def test_each_form_gives_the_steps_of_detect(name: str, published: dict[str, Published]) -> None:
    found = published[name]
    assert found.dead_letters == found.poison
    assert sum(map(len, found.expected.values())) > 25
    assert found.events == found.expected
