"""Messages of one layout of bytes, which are read together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.inputs import Messages, fetch_lacking
from stepstream.inputs.alike import MAX_LAYOUTS, AlikeReader
from stepstream.inputs.general import GeneralFormat
from stepstream.inputs.layout import Layout
from stepstream.inputs.protobuf import Protobuf
from stepstream.inputs.varints import write_varint
from stepstream.settings import InputSettings
from tests.fuzzing.schema_formats import NAMES, PROTO_COLUMNS, schema_formats
from tests.inputs.protobuf_types import message_type, new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.inputs import Decoded, InputFormat

FORMATS = [made for formats in schema_formats().values() for made in formats]
AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")


def decode(made: InputFormat, values: Sequence[bytes]) -> Decoded:
    fetch_lacking(made.schemas, values)
    opened = made.open([b"phone"] * len(values), values, lambda _: [])
    count = len(values)
    messages = Messages(opened.values, ["phone"] * count, np.zeros(count, np.int64), 1 << 60)
    decoded = made.decode(messages)
    return decoded._replace(invalid={**opened.invalid, **decoded.invalid})


def contents(decoded: Decoded) -> list[Any]:
    """What can be compared."""
    return [
        decoded.message.tolist(),
        decoded.time_us.tolist(),
        decoded.axes.tolist(),
        {row: str(error) for row, error in decoded.invalid.items()},
    ]


@pytest.mark.parametrize("number", range(len(FORMATS)))
def test_they_give_what_they_give_one_by_one_without_being_parsed(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, one_by_one, example = FORMATS[number]
    expected = contents(decode(one_by_one, [example] * 5))
    assert len(expected[1]) == 5 * 6

    def refuse(_: bytes) -> Any:
        raise AssertionError("parsed")

    monkeypatch.setattr(made, "_parse", refuse)
    assert contents(decode(made, [example] * 5)) == expected


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_mixture_gives_what_its_messages_give_one_by_one(data: st.DataObject) -> None:
    made, one_by_one, example = data.draw(st.sampled_from(FORMATS))
    values = []
    for _ in range(data.draw(st.integers(0, 12))):
        value = bytearray(example)
        for _ in range(data.draw(st.integers(0, 2))):
            value[data.draw(st.integers(5, len(value) - 1))] = data.draw(st.integers(0, 255))
        values.append(bytes(value) if data.draw(st.integers(0, 9)) else bytes(value[:-1]))
    assert contents(decode(made, values)) == contents(decode(one_by_one, values))


def test_messages_of_several_sizes_keep_their_order() -> None:
    descriptor = message_type(PROTO_COLUMNS)
    values = [
        new(
            descriptor,
            note="x" * (row % 3),
            timestamp=[1_700_000_000 + row],
            **{axis: [float(row)] for axis in AXES},
        ).SerializeToString()
        for row in range(30)
    ]
    decoded = decode(schema_formats()["protobuf"][0].made, values)
    assert decoded.message.tolist() == list(range(30))
    assert decoded.axes[:, 0].tolist() == [float(row) for row in range(30)]


def test_a_value_beside_the_list_means_what_it_means_one_by_one() -> None:
    source = """
        syntax = "proto3";
        message Item { double timestamp = 1; double accel_x = 2; double accel_y = 3; }
        message Message { repeated Item readings = 1; double accel_z = 2; }
    """
    message = new(message_type(source), accel_z=9.5)
    for row in range(6):
        message.readings.add(timestamp=1_700_000_000 + row, accel_x=0.5, accel_y=0.25)
    layout = Layout.of(InputSettings(readings="readings"))
    parser = Protobuf(message_type(source), NAMES)
    made = GeneralFormat(parser, layout, AlikeReader.of(parser, layout))
    values = [message.SerializeToString()] * 5
    assert contents(decode(made, values)) == contents(decode(GeneralFormat(parser, layout), values))


def test_the_layouts_that_are_remembered_are_limited() -> None:
    parser = Protobuf(message_type(PROTO_COLUMNS), NAMES)
    reader = AlikeReader.of(parser, Layout.of(InputSettings()))
    assert reader is not None
    for size in range(MAX_LAYOUTS + 10):
        value = new(
            message_type(PROTO_COLUMNS),
            note="x" * size,
            timestamp=[1.0],
            **{axis: [1.0] for axis in AXES},
        ).SerializeToString()
        columns, others = reader.read(range(4), [value] * 4, {})
        assert (len(columns.message), others) == (4, {})
    assert len(reader._layouts) == MAX_LAYOUTS


def test_an_array_that_says_it_is_longer_than_its_message_is_refused() -> None:
    parser, layout = Protobuf(message_type(PROTO_COLUMNS), NAMES), Layout.of(InputSettings())
    value = b"\x12" + write_varint(1 << 62) + bytes(64)
    decoded = decode(GeneralFormat(parser, layout, AlikeReader.of(parser, layout)), [value] * 5)
    assert contents(decoded) == contents(decode(GeneralFormat(parser, layout), [value] * 5))
    assert len(decoded.invalid) == 5


@pytest.mark.parametrize(
    "given_settings",
    [
        {"device_id": "note"},
        {"time_unit": "iso8601"},
        {"time_unit": "record"},
        {"fields": {"accel_x": "a.0"}},
        {"fields": {"start": "t", "rate": "hz"}},
        {"sensor": {"path": "s", "accelerometer": "a", "gyroscope": "g"}},
    ],
)
def test_other_layouts_are_read_one_by_one(given_settings: dict[str, Any]) -> None:
    parser = Protobuf(message_type(PROTO_COLUMNS), NAMES)
    assert AlikeReader.of(parser, Layout.of(InputSettings(**given_settings))) is None


@pytest.mark.parametrize("number", range(len(FORMATS)))
def test_messages_that_are_no_messages_at_all_are_left_to_the_parser(number: int) -> None:
    made, one_by_one, example = FORMATS[number]
    for poison in (example[:5] + b"\xff" * 40, example[:5] + b"\x02\x7f" * 20, b"\xff" * 9, b""):
        values = [poison] * 5
        assert contents(decode(made, values)) == contents(decode(one_by_one, values))
        assert len(decode(made, values).invalid) == 5 or not poison
