from __future__ import annotations

import json

from stepstream.outputs import (
    CountedStep,
    Event,
    Output,
    OutputRecord,
    StepEvents,
    encode_event,
    event_id,
    make_outputs,
)
from stepstream.settings import TopicSettings

STEP = CountedStep(
    "sensor-readings",
    3,
    1182,
    0,
    "Gerät".encode(),
    "Gerät",
    1234,
    1_700_000_000_412_500,
    1_700_000_001_150_000,
    0.93004,
    0.87999,
)
ENCODED = (
    '{"event_id":"sensor-readings-3-1182-0","device_id":"Gerät","step_count":1234,'
    '"started_at":1700000000.4125,"ended_at":1700000001.15,'
    '"start_probability":0.93,"end_probability":0.88,"model":"hand-1.0"}'
).encode()


def test_an_event_has_the_fields_of_the_contract_in_their_order() -> None:
    event = Event.of(
        "Gerät",
        1234,
        1_700_000_000_412_500,
        1_700_000_001_150_000,
        0.93004,
        0.87999,
        "hand-1.0",
        event_id("sensor-readings", 3, 1182, 0),
    )
    assert encode_event(event) == ENCODED


def test_an_event_without_kafka_has_no_event_id() -> None:
    event = Event.of("phone", 1, 0, 1, 0.5, 0.5, "hand-1.0")
    assert "event_id" not in json.loads(encode_event(event))


def test_each_step_gives_an_event_under_its_messages_key() -> None:
    output = StepEvents("events", "hand-1.0")
    second = STEP._replace(number=1, step_count=1235)
    first, other = output.records([STEP, second])
    assert first == OutputRecord("events", "Gerät".encode(), ENCODED)
    event = json.loads(other.value or b"")
    assert (event["event_id"], event["step_count"]) == ("sensor-readings-3-1182-1", 1235)
    assert output.records([]) == []


def test_events_are_published_to_their_topic() -> None:
    outputs: list[Output] = make_outputs(TopicSettings(events="steps"), "hand-1.0")
    assert [output.topic for output in outputs] == ["steps"]
    assert [record.topic for output in outputs for record in output.records([STEP])] == ["steps"]
