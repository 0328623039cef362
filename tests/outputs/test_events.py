from __future__ import annotations

import json

from stepstream.outputs import Event, encode_event, event_id

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
