"""Messages in Protobuf: the quick reader compared with Google's, and what becomes of each kind."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.inputs.protobuf import Protobuf, load_descriptors
from stepstream.inputs.schemas import SchemaError
from stepstream.inputs.varints import write_varint
from tests.inputs.avro_values import plain
from tests.inputs.protobuf_types import (
    FIELDS,
    compile_set,
    doubles,
    message_type,
    messages,
    new,
    types,
)

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

NAMES = frozenset(FIELDS)


def parser(descriptor: Descriptor, *names: str) -> Protobuf:
    return Protobuf(descriptor, names or FIELDS)


def is_valid(descriptor: Descriptor, value: bytes) -> bool:
    """Whether Google's own reader accepts it."""
    try:
        new(descriptor).ParseFromString(value)
    except DecodeError:
        return False
    return True


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_message_is_read_as_googles_reader_reads_it(data: st.DataObject) -> None:
    descriptor = data.draw(types())
    one = parser(descriptor)
    for _ in range(2):  # the second time, layouts are known
        parts = [data.draw(messages(descriptor)) for _ in range(data.draw(st.integers(1, 2)))]
        # Messages behind each other are one message: fields come twice and are merged.
        value = b"".join(part.SerializeToString() for part in parts)
        assert plain(one.parse(value), NAMES) == plain(one.parse_slowly(value), NAMES)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_messages_are_refused_or_read(data: st.DataObject) -> None:
    descriptor = data.draw(types())
    damaged = bytearray(data.draw(messages(descriptor)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    one = parser(descriptor)
    for poison in (bytes(damaged), cut):
        # Any other exception fails the test.
        with suppress(InvalidMessage):
            document = one.parse(poison)
            assert not is_valid(descriptor, poison) or (
                plain(document, NAMES) == plain(one.parse_slowly(poison), NAMES)
            )


COLUMNS = """
syntax = "proto3";
message Message { repeated double a = 1; repeated float b = 2; repeated sint32 c = 3; int64 d = 4; }
"""


def test_packed_numbers_become_arrays() -> None:
    descriptor = message_type(COLUMNS)
    message = new(descriptor, a=[1.0, 2.0], b=[0.5], c=[-1, 300, -70_000], d=-5)
    document = parser(descriptor).parse(message.SerializeToString())
    assert document["a"].dtype == np.float64
    assert document["b"].dtype == np.float32
    assert document["c"].tolist() == [-1, 300, -70_000]
    assert document["d"] == -5


def test_numbers_that_are_not_packed_are_read_as_well() -> None:
    value = doubles(1, 1.5, 2.5) + new(message_type(COLUMNS), a=[3.5]).SerializeToString()
    assert parser(message_type(COLUMNS)).parse(value)["a"].tolist() == [1.5, 2.5, 3.5]


READINGS = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Vector { double x = 1; double y = 2; }
message Reading { int64 t = 1; Vector v = 2; google.protobuf.Timestamp at = 3; }
message Message { repeated Reading readings = 1; google.protobuf.Timestamp at = 2; }
"""
READING_NAMES = ("readings", "t", "v", "x", "y", "at")


def readings(count: int, *, zero_at: int = -1) -> Any:
    message = new(message_type(READINGS))
    for row in range(count):
        reading = message.readings.add(t=1_700_000_000_000 + row)
        reading.v.x, reading.v.y = row + 0.5, 0.0 if row == zero_at else -1.0
        reading.at.FromNanoseconds(1_700_000_000_300_000_000 + row * 12_500_000)
    return message


def test_messages_of_one_layout_become_an_array() -> None:
    document = parser(message_type(READINGS), *READING_NAMES).parse(readings(9).SerializeToString())
    items = document["readings"]
    assert isinstance(items, np.ndarray)
    assert items["t"].tolist() == [1_700_000_000_000 + row for row in range(9)]
    assert items["v"]["x"].tolist() == [row + 0.5 for row in range(9)]
    expected = [1_700_000_000.3 + row / 80 for row in range(9)]
    assert np.abs(items["at"] - expected).max() < 5e-7


def test_a_zero_that_is_left_out_is_a_zero() -> None:
    document = parser(message_type(READINGS), *READING_NAMES).parse(
        readings(9, zero_at=5).SerializeToString()
    )
    assert [item["v"]["y"] for item in document["readings"]] == [-1.0] * 5 + [0.0] + [-1.0] * 3


@pytest.mark.parametrize("unit_ns", [10**9, 10**6, 10**3, 1])
def test_times_have_the_wanted_unit(unit_ns: int) -> None:
    descriptor = message_type(READINGS)
    message = readings(6)
    message.at.FromNanoseconds(1_700_000_000_250_000_000)
    document = Protobuf(descriptor, READING_NAMES, unit_ns).parse(message.SerializeToString())
    assert abs(document["at"] * unit_ns - 1_700_000_000_250_000_000) < 500
    expected = [1_700_000_000_300_000_000 + row * 12_500_000 for row in range(6)]
    # Nanoseconds since the epoch are not all float64; half a microsecond is what counts.
    assert np.abs(document["readings"]["at"] * unit_ns - expected).max() < 500


ODDS = """
syntax = "proto2";
enum Side { LEFT = 1; RIGHT = 2; }
message Message {
  optional Side a = 1 [default = RIGHT];
  map<string, double> b = 2;
  oneof sensor { double c = 3; string d = 4; }
  optional group E = 5 { optional double x = 1; }
  extensions 100 to 200;
}
"""


def test_enums_maps_and_oneofs() -> None:
    one = parser(message_type(ODDS), "a", "b", "c", "d", "x")
    assert one.parse(b"") == {"a": "RIGHT"}
    message = new(message_type(ODDS), a=1, b={"x": 1.5, "other": 2.5}, d="accelerometer")
    assert one.parse(message.SerializeToString()) == {
        "a": "LEFT",
        "b": {"x": 1.5},
        "d": "accelerometer",
    }
    # The last member of a oneof is the only one.
    both = new(message_type(ODDS), d="x").SerializeToString() + doubles(3, 0.5)
    assert one.parse(both) == {"a": "RIGHT", "c": 0.5}
    # An unknown value of a closed enum is an unknown field.
    assert one.parse(b"\x08\x07") == {"a": "RIGHT"}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"\x08", ErrorCode.INVALID_ENCODING),
        (b"\xff" * 11, ErrorCode.INVALID_ENCODING),
        (b"\x0a\x7f", ErrorCode.INVALID_ENCODING),
        (b"\x0a\x07" + bytes(7), ErrorCode.INVALID_ENCODING),
        (b"\x0a" + write_varint(1 << 40), ErrorCode.INVALID_ENCODING),
        (b"\x0a" + write_varint(10_001 * 8) + bytes(10_001 * 8), ErrorCode.TOO_MANY_READINGS),
        (b"\x1a" + write_varint(10_001) + bytes(10_001), ErrorCode.TOO_MANY_READINGS),
        (b"\x00\x00", ErrorCode.INVALID_ENCODING),
    ],
)
def test_poison_is_refused(value: bytes, code: ErrorCode) -> None:
    with pytest.raises(InvalidMessage) as caught:
        parser(message_type(COLUMNS)).parse(value)
    assert caught.value.code == code


def test_many_empty_messages_are_refused() -> None:
    with pytest.raises(InvalidMessage) as caught:
        parser(message_type(READINGS), *READING_NAMES).parse(b"\x0a\x00" * 10_001)
    assert caught.value.code == ErrorCode.TOO_MANY_READINGS


def test_a_message_that_contains_itself_ends() -> None:
    descriptor = message_type('syntax = "proto3"; message Message { Message a = 1; double b = 2; }')
    value = doubles(2, 1.5)
    for _ in range(3):
        value = b"\x0a" + write_varint(len(value)) + value
    inner = {"b": 1.5}
    expected = {"a": {"a": {"a": inner, "b": 0.0}, "b": 0.0}, "b": 0.0}
    assert parser(descriptor).parse(value) == expected
    for _ in range(5_000):
        value = b"\x0a" + write_varint(len(value)) + value
    with pytest.raises(InvalidMessage):
        parser(descriptor).parse(value)


def test_imports_are_found() -> None:
    common = 'syntax = "proto3"; package common; message Vector { double x = 1; }'
    source = 'syntax = "proto3"; import "0.proto"; message Message { common.Vector a = 1; }'
    pool, names = load_descriptors(compile_set(common, source))
    descriptor = pool.FindMessageTypeByName("Message")
    message = new(descriptor)
    message.a.x = 1.5
    assert names == ["0.proto", "1.proto"]
    assert parser(descriptor, "a", "x").parse(message.SerializeToString()) == {"a": {"x": 1.5}}


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"\x0a\x07\x0a\x01a\x1a\x02zz"])
def test_what_is_no_descriptor_set(content: bytes) -> None:
    with pytest.raises(SchemaError):
        load_descriptors(content)
