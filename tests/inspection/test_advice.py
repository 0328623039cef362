"""Settings are found for the forms in which devices and gateways write."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stepstream.detection.sanity import Doubt
from stepstream.inspection import Excerpt, FoundMessage, Inspector
from stepstream.settings import InputSettings, RegistrySettings
from tests.builders import load_walk
from tests.inputs.forms import BATCH, FORMS, Form

if TYPE_CHECKING:
    from pathlib import Path

    from stepstream.inspection import Advice, Understanding
    from tests.inputs.forms import Row

EPOCH_US = 1_700_000_000_000_000
NOW_US = EPOCH_US + 3_600_000_000
AHEAD_US = 60_000_000
BY_DESIGN = {
    "CBOR with numbers as names": "numbers say nothing",
    "the id in the value, an integer": "a key that is always the same is that of one device",
    "the record's time": "it is right without any setting",
}
"""Forms for which nothing is advised."""


@pytest.fixture(scope="module")
def walk(recordings: Path) -> tuple[np.ndarray, np.ndarray]:
    time_s, axes = load_walk(recordings)
    rows = slice(15 * 80, 40 * 80)
    return EPOCH_US + np.rint(time_s[rows] * 1e6).astype(np.int64), axes[rows].astype(np.float64)


def excerpt_of(form: Form, rows: list[Row]) -> Excerpt:
    return Excerpt(
        "sent",
        [
            FoundMessage(
                one.value(),
                one.key(),
                tuple(one.headers() or ()),
                one.timestamp()[1],
                0,
                f"offset {one.offset()}",
            )
            for one in form.records(rows)
        ],
    )


def inspector(excerpt: Excerpt, settings: InputSettings | None = None) -> Inspector:
    return Inspector(settings or InputSettings(), RegistrySettings(), excerpt, NOW_US, AHEAD_US)


def advise(made: Inspector, settings: InputSettings | None = None) -> Advice:
    return made.advise(made.understand(settings or InputSettings()))


@pytest.mark.parametrize("name", [name for name in FORMS if name not in BY_DESIGN])
def test_the_settings_of_a_form_are_found_by_its_messages(
    name: str, walk: tuple[np.ndarray, np.ndarray]
) -> None:
    form = FORMS[name]
    made = inspector(excerpt_of(form, form.rows(*walk)))
    advice = advise(made)
    assert advice.settings is not None
    found, expected = advice.understood, made.understand(InputSettings(**form.settings))
    assert found is not None
    assert found.is_right
    assert not found.invalid
    assert found.device_ids == expected.device_ids == {form.device_id: found.total}
    assert (found.time_us == expected.time_us).all()
    assert np.allclose(found.pieces[:, :2], expected.pieces[:, :2], rtol=1e-5)


def test_messages_that_are_read_well_get_no_advice(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["nested objects"]
    settings = InputSettings(**form.settings)
    made = inspector(excerpt_of(form, form.rows(*walk)), settings)
    understood = made.understand(settings)
    assert understood.is_right
    assert made.advise_finer_ids(understood) is None


def changed(excerpt: Excerpt, key: object) -> Excerpt:
    messages = [
        FoundMessage(one.value, key(row) if callable(key) else key, one.headers, one.record_ms)  # type: ignore[arg-type]
        for row, one in enumerate(excerpt.messages)
    ]
    return Excerpt("sent", messages)


def test_keys_that_name_messages_are_not_devices(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["the id in the value"]
    excerpt = changed(excerpt_of(form, form.rows(*walk)), lambda row: f"message-{row}".encode())
    settings = InputSettings(**{**form.settings, "device_id": "key"})
    made = inspector(excerpt, settings)
    understood = made.understand(settings)
    assert understood.is_scattered
    advice = made.advise(understood)
    assert advice.lines(settings) == ["STEPSTREAM_INPUT__DEVICE_ID=device.id"]


def test_a_key_that_names_a_gateway_is_no_device(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["the id in the value"]
    excerpt = excerpt_of(form, form.rows(*walk))
    messages = [
        FoundMessage((one.value or b"").replace(b'"17"', b'"%d"' % (row // 1000)), b"gateway")
        for row, one in enumerate(excerpt.messages)
    ]
    settings = InputSettings(**{**form.settings, "device_id": "key"})
    made = inspector(Excerpt("sent", messages), settings)
    understood: Understanding = made.understand(settings)
    assert list(understood.device_ids) == ["gateway"]
    advice = made.advise_finer_ids(understood)
    assert advice is not None
    assert advice.lines(settings) == ["STEPSTREAM_INPUT__DEVICE_ID=device.id"]
    assert "2 values" in advice.remarks[0]


def test_one_topic_of_several_gets_settings_of_its_own(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["integer milliseconds"]
    settings = InputSettings(fields=form.settings["fields"])
    advice = advise(inspector(excerpt_of(form, form.rows(*walk)), settings), settings)
    assert advice.lines(settings, "phones") == [
        'STEPSTREAM_INPUTS=\'{"phones": {"time_unit": "ms"}}\''
    ]
    different = {"phones": {"accel_unit": "g"}, "watches": {"format": "cbor"}}
    (line,) = advice.lines(settings, "phones", different)
    assert json.loads(line.split("=", 1)[1].strip("'")) == {
        "phones": {"accel_unit": "g", "time_unit": "ms"},
        "watches": {"format": "cbor"},
    }


@pytest.mark.parametrize("item", ["object", "list"])
def test_a_list_of_one_sensor_a_message(item: str, walk: tuple[np.ndarray, np.ndarray]) -> None:
    rows = Form(list, {}).rows(*walk)
    messages = []
    for begin in range(0, len(rows), BATCH):
        for name, column in (("acc", "accel"), ("gyro", "gyro")):
            these = [(row.time_us, *getattr(row, column)) for row in rows[begin : begin + BATCH]]
            samples = (
                these if item == "list" else [dict(zip("txyz", one, strict=True)) for one in these]
            )
            value = json.dumps({"sensor": name, "samples": samples}).encode()
            messages.append(FoundMessage(value, b"phone"))
    advice = advise(inspector(Excerpt("sent", messages)))
    if item == "list":
        # Nothing says which place is what; taking turns for accelerations would be worse.
        assert advice.settings is None
        assert "name the paths" in advice.remarks[0]
        return
    assert advice.settings is not None
    assert advice.settings.sensor is not None
    assert advice.settings.sensor.path == "sensor"
    assert advice.understood is not None
    assert advice.understood.is_right
    assert advice.understood.readings == 2 * len(rows)


def test_times_that_count_from_a_start_are_left_to_the_record(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["nested objects"]
    messages = [
        FoundMessage(
            (one.value or b"").replace(b'"ts": 17000000', b'"ts": 1'),
            one.key,
            record_ms=one.record_ms,
        )
        for one in excerpt_of(form, form.rows(*walk)).messages
    ]
    settings = InputSettings(**form.settings)
    made = inspector(Excerpt("sent", messages), settings)
    understood = made.understand(settings)
    assert understood.is_before_2001
    lines = made.advise(understood).lines(settings)
    assert "STEPSTREAM_INPUT__TIME_UNIT=record" in lines
    assert "timestamp" not in lines[0]


def test_a_time_is_known_by_its_size_if_its_name_says_nothing(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["integer milliseconds"]
    messages = [
        FoundMessage((one.value or b"").replace(b'"ts"', b'"when"'), one.key)
        for one in excerpt_of(form, form.rows(*walk)).messages
    ]
    advice = advise(inspector(Excerpt("sent", messages)))
    assert advice.settings is not None
    assert advice.settings.fields["timestamp"] == "when"
    assert advice.settings.time_unit == "ms"


def test_messages_that_name_no_device_are_said() -> None:
    value = b'{"timestamp": 1700000000, "accel_x": 0, "accel_y": 9.8, "accel_z": 0}'
    advice = advise(inspector(Excerpt("sent", [FoundMessage(value)] * 3)))
    assert advice.settings is None
    assert advice.remarks == ["nothing names the device: no key, no header, no field"]


def test_counts_of_a_sensor_are_said_to_be_a_guess(walk: tuple[np.ndarray, np.ndarray]) -> None:
    form = FORMS["raw counts"]
    advice = advise(inspector(excerpt_of(form, form.rows(*walk))))
    assert advice.settings is not None
    assert (advice.settings.accel_unit, advice.settings.gyro_unit) == ("g/8192", "deg/s/131")
    assert "data sheet" in advice.remarks[0]


@pytest.mark.parametrize(
    ("value", "remark"),
    [
        (b"\x1f\x8b\x08\0\0", "compressed with gzip"),
        (b"Obj\x01abc", "a whole Avro file"),
        (b"phone,1,2,3", "text that is not JSON"),
        (None, "without a value"),
        (b"\xff\xfe\x00\x01", "unknown encoding"),
        (b'{"temperature": 17}', "nothing in them has the name of an acceleration"),
        (
            b"""{"body": "{\\"ts\\": 1700000000, \\"acc\\": [0, 9.8, 0]}"}""",
            "body is text with JSON in it",
        ),
        (b'{"a": {"body": "eyJhY2MiOiBbMCwgOS44LCAwXX0="}}', "a.body is text with JSON in it"),
        (
            b'{"ts": 1700000000, "acc": {"x": [1, 2], "y": [1, 2], "z": [1]}}',
            "nothing says how far",
        ),
        (
            b'{"ts": [1700000000], "acc": {"x": [1, 2], "y": [1, 2], "z": [1]}}',
            "too: unequal-columns: lists of 2 and 1 numbers",
        ),
        (b"\x0a\x03abc\x15\0\0\x80\x3f", "only a compiled schema"),
        (b'{"t": 1700000000, "x": [1, 2], "y": [1, 2], "z": [1, 2]}', "acceleration"),
        (
            b'{"t": 1700000000, "acc": {"x": [1, 2], "y": [1, 2], "z": [1, 2]}}',
            "nothing says how far they are apart",
        ),
    ],
)
def test_what_settings_do_not_change_is_said(value: bytes | None, remark: str) -> None:
    advice = advise(inspector(Excerpt("sent", [FoundMessage(value, b"phone")] * 3)))
    assert any(remark in text for text in advice.remarks), advice.remarks


def test_a_schema_needs_its_registry() -> None:
    framed = [FoundMessage(b"\0\0\0\0\x07\x02\x04abc", b"phone")] * 3
    advice = advise(inspector(Excerpt("sent", framed)))
    assert "Avro behind the id of a schema (7)" in advice.remarks[0]
    assert advice.lines(InputSettings()) == [
        "STEPSTREAM_INPUT__FORMAT=avro",
        "STEPSTREAM_REGISTRY__URL=<address of the schema registry>",
    ]


def test_messages_without_times_get_no_unit_for_them(walk: tuple[np.ndarray, np.ndarray]) -> None:
    form = FORMS["the record's time"]
    excerpt = changed(excerpt_of(form, form.rows(*walk)), b'"phone"')
    settings = InputSettings(**{**form.settings, "time_unit": "s"})
    assert advise(inspector(excerpt, settings), settings).lines(settings) == [
        "STEPSTREAM_INPUT__KEY=json"
    ]


def test_a_list_of_plain_readings_is_read_as_soon_as_a_path_is_named(
    walk: tuple[np.ndarray, np.ndarray],
) -> None:
    form = FORMS["objects in a field of a field"]
    excerpt = excerpt_of(form, form.rows(*walk))
    messages = [
        FoundMessage(json.dumps(json.loads(one.value or b"")["payload"]["samples"]).encode(), b"17")
        for one in excerpt.messages
    ]
    advice = advise(inspector(Excerpt("sent", messages)))
    assert advice.lines(InputSettings()) == [
        """STEPSTREAM_INPUT__FIELDS='{"timestamp": "timestamp"}'"""
    ]
    assert advice.understood is not None
    assert advice.understood.readings == len(messages) * BATCH


def test_the_rate_is_known_although_times_are_rounded(walk: tuple[np.ndarray, np.ndarray]) -> None:
    time_us, axes = walk
    form = FORMS["nested objects"]
    rows = form.rows(time_us // 1000 * 1000, axes)
    settings = InputSettings(**form.settings)
    timings = inspector(excerpt_of(form, rows), settings).understand(settings).timings
    ((rate_hz,),) = (timing.rates_hz for timing in timings.values())
    assert rate_hz == pytest.approx(80, rel=1e-3)


def test_readings_without_gravity_are_not_taken_for_g(walk: tuple[np.ndarray, np.ndarray]) -> None:
    time_us, axes = walk
    rest = axes.copy()
    for place in range(3):
        rest[:, place] -= np.convolve(axes[:, place], np.ones(80) / 80, "same")
    form = FORMS["nested objects"]
    settings = InputSettings(**form.settings)
    made = inspector(excerpt_of(form, form.rows(time_us, rest)), settings)
    understood = made.understand(settings)
    assert understood.verdict.doubts == (Doubt.NO_GRAVITY,)
    assert made.advise(understood).lines(settings) == []
