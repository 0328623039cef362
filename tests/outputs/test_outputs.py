from __future__ import annotations

import json
from typing import Any

from stepstream.outputs import (
    CountedStep,
    Event,
    Minute,
    Outputs,
    Walk,
    encode_value,
    event_id,
)
from stepstream.outputs.encoding import JSON
from stepstream.settings import OutputSettings, TopicSettings

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
    assert encode_value(event) == ENCODED


def test_an_event_without_kafka_has_no_event_id() -> None:
    event = Event.of("phone", 1, 0, 1, 0.5, 0.5, "hand-1.0")
    assert "event_id" not in json.loads(encode_value(event))


def outputs(**settings: Any) -> Outputs:
    topics = TopicSettings(events="steps", minutes="minutes", walks="walks", counts="counts")
    return Outputs(
        topics, OutputSettings(**settings), dict.fromkeys(topics.outputs, JSON), "hand-1.0"
    )


def test_each_step_gives_an_event_under_its_messages_key() -> None:
    second = STEP._replace(number=1, step_count=1235)
    first, other = outputs().events([STEP, second])
    assert first[:3] == ("steps", "Gerät".encode(), ENCODED)
    assert first.headers == (
        ("content-type", b"application/json"),
        ("stepstream-topic", b"sensor-readings"),
    )
    event = json.loads(other.value or b"")
    assert (event["event_id"], event["step_count"]) == ("sensor-readings-3-1182-1", 1235)
    assert outputs().events([]) == []


def test_the_latest_count_of_each_device_is_published() -> None:
    other = STEP._replace(device_id="phone", step_count=7)
    records = outputs().counts([STEP, other, STEP._replace(step_count=1235)])
    assert [record.key for record in records] == ["Gerät".encode(), b"phone"]
    assert json.loads(records[0].value or b"") == {
        "device_id": "Gerät",
        "step_count": 1235,
        "last_step_at": 1_700_000_001.15,
        "model": "hand-1.0",
    }


def test_the_tombstone_of_a_count_says_of_which_topic_the_device_was() -> None:
    headers = (("stepstream-topic", b"watches"),)
    found = outputs().forgotten_count("watches", "phone")
    assert found == ("counts", b"phone", None, headers, None, None)


def test_counts_without_a_topic_are_not_published() -> None:
    made = Outputs(TopicSettings(), OutputSettings(), {"step": JSON}, "hand-1.0")
    assert made.counts([STEP]) == []
    assert made.forgotten_count("readings", "phone") is None


def test_minutes_and_walks_have_the_fields_of_the_contract() -> None:
    minute = Minute("phone", 1080, 0, 28_333_333, 110, 60_400_000)
    walk = Walk("phone", 1182, 1, 1_700_000_000_412_500, 1_700_000_060_412_500, 90, 50_000_000)
    first, second = outputs().final("readings", 3, [minute, walk])
    assert first[:2] == ("minutes", b"phone")
    assert json.loads(first.value or b"") == {
        "minute_id": "readings-3-1080-0",
        "device_id": "phone",
        "minute": "2023-11-14T22:13:00Z",
        "steps": 110,
        "cadence": 110.0,
        "walking_s": 60.0,
        "model": "hand-1.0",
    }
    assert second[:2] == ("walks", b"phone")
    assert json.loads(second.value or b"") == {
        "walk_id": "readings-3-1182-1",
        "device_id": "phone",
        "started_at": 1_700_000_000.4125,
        "ended_at": 1_700_000_060.4125,
        "steps": 90,
        "cadence": 108.0,
        "model": "hand-1.0",
    }


def test_the_record_time_is_that_of_the_event_if_it_is_asked_for() -> None:
    made = outputs(record_time="event")
    assert made.events([STEP])[0].time_ms == 1_700_000_001_150
    walked = Walk("phone", 1, 0, 1, 2_000, 1, 1)
    minute, walk = made.final("readings", 3, [Minute("phone", 1, 0, 28_333_333, 1, 1), walked])
    assert (minute.time_ms, walk.time_ms) == (28_333_334 * 60_000, 2)
    assert outputs().events([STEP])[0].time_ms is None


def test_records_are_cloudevents_if_they_are_asked_for() -> None:
    (record,) = outputs(cloudevents=True).events([STEP])
    assert dict(record.headers) == {
        "content-type": b"application/json",
        "stepstream-topic": b"sensor-readings",
        "ce_specversion": b"1.0",
        "ce_id": b"step/sensor-readings-3-1182-0",
        "ce_source": b"/stepstream/sensor-readings",
        "ce_type": b"stepstream.step",
        "ce_time": b"2023-11-14T22:13:21.150000Z",
        "ce_subject": "Gerät".encode(),
    }
