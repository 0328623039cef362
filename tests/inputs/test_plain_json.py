from __future__ import annotations

import math
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepstream.inputs import Decoded, ErrorCode
from tests import builders
from tests.builders import FIELDS, batch, encode, reading

pytestmark = pytest.mark.usefixtures("each_decoder")

NOW_US = 1_700_000_100_000_000
RECORD_MS = 1_700_000_099_000


def decode(*values: bytes | None, device_id: str = "phone", **units: Any) -> Decoded:
    return builders.decode(
        values, device_id, record_ms=RECORD_MS, latest_us=NOW_US + 60_000_000, **units
    )


def code(value: bytes | None) -> ErrorCode:
    decoded = decode(value)
    assert len(decoded.message) == 0
    return decoded.invalid[0].code


def test_a_single_reading_becomes_a_row() -> None:
    decoded = decode(encode(reading()))
    assert decoded.message.tolist() == [0]
    assert decoded.time_us.tolist() == [1_700_000_000_012_500]
    assert decoded.axes.dtype == np.float32
    assert decoded.axes[0] == pytest.approx([0.12, 9.71, 0.34, 0.01, -0.02, 0.11])
    assert not decoded.invalid


def test_a_batch_becomes_a_row_for_each_reading() -> None:
    decoded = decode(encode(batch(3)))
    assert decoded.message.tolist() == [0, 0, 0]
    assert decoded.time_us.tolist() == [1_700_000_000_000_000 + i * 12_500 for i in range(3)]
    assert decoded.axes.tolist() == [[0, 1, 2, 3, 4, 5]] * 3


def test_both_forms_keep_the_order_of_their_messages() -> None:
    decoded = decode(
        encode(batch(2)), encode(reading()), b"broken", encode(batch(1)), encode(reading())
    )
    assert decoded.message.tolist() == [0, 0, 1, 3, 4]
    assert list(decoded.invalid) == [2]


def test_an_empty_batch_gives_nothing() -> None:
    decoded = decode(encode(batch(0)))
    assert not len(decoded.message)
    assert not decoded.invalid


@pytest.mark.parametrize("form", [reading, lambda **changes: batch(2, **changes)])
def test_a_missing_gyroscope_counts_as_zero(form: Any) -> None:
    decoded = decode(encode(form(gyro_x=None, gyro_y=None, gyro_z=None)))
    assert (decoded.axes[:, 3:] == 0).all()
    assert (decoded.axes[:, :3] != 0).any()


def test_units_are_converted() -> None:
    value = encode(reading(timestamp=1_700_000_000_012, accel_y=1.0, gyro_z=180.0))
    decoded = decode(value, accel_unit="g", gyro_unit="deg/s", time_unit="ms")
    assert decoded.time_us.tolist() == [1_700_000_000_012_000]
    assert decoded.axes[0, 1] == pytest.approx(9.80665)
    assert decoded.axes[0, 5] == pytest.approx(math.pi)


@pytest.mark.parametrize(
    ("unit", "stamp"), [("us", 1_700_000_000_012_500), ("ns", 1_700_000_000_012_500_000)]
)
def test_fine_units_of_time_are_exact_to_the_microsecond(unit: str, stamp: int) -> None:
    decoded = decode(encode(reading(timestamp=stamp)), time_unit=unit)
    assert decoded.time_us.tolist() == [1_700_000_000_012_500]


def test_a_reading_without_a_time_gets_that_of_its_record() -> None:
    assert decode(encode(reading(timestamp=None))).time_us.tolist() == [RECORD_MS * 1000]


def test_unknown_fields_are_ignored_and_the_right_device_id_is_accepted() -> None:
    decoded = decode(encode(reading(device_id="phone", firmware={"major": [1]})))
    assert len(decoded.message) == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ErrorCode.NULL_VALUE),
        (b"", ErrorCode.INVALID_JSON),
        (b"{", ErrorCode.INVALID_JSON),
        (b"\xff\xfe", ErrorCode.INVALID_JSON),
        (b"[" * 100_000, ErrorCode.INVALID_JSON),
        (b'{"accel_x":' + b"[" * 100_000, ErrorCode.INVALID_JSON),
        (b"17", ErrorCode.WRONG_TYPE),
        (b"[]", ErrorCode.WRONG_TYPE),
        (b"null", ErrorCode.WRONG_TYPE),
        (b"{}", ErrorCode.MISSING_FIELD),
        (encode(reading(accel_z=None)), ErrorCode.MISSING_FIELD),
        (encode(reading(gyro_y=None)), ErrorCode.MISSING_FIELD),
        (encode(batch(2, gyro_x=None)), ErrorCode.MISSING_FIELD),
        (encode(batch(2, gyro_y=None)), ErrorCode.MISSING_FIELD),
        (encode(reading(accel_x="0.1")), ErrorCode.WRONG_TYPE),
        (encode(reading(accel_x=True)), ErrorCode.WRONG_TYPE),
        (encode({**reading(), "gyro_x": None}), ErrorCode.WRONG_TYPE),
        (encode({**reading(), "timestamp": None}), ErrorCode.WRONG_TYPE),
        (encode(reading(device_id=17)), ErrorCode.WRONG_TYPE),
        (encode(batch(2, accel_x=[1.0, "2"])), ErrorCode.WRONG_TYPE),
        (encode(reading(accel_x=math.nan)), ErrorCode.NOT_FINITE),
        (encode(reading(gyro_z=-math.inf)), ErrorCode.NOT_FINITE),
        (encode(reading(timestamp=math.nan)), ErrorCode.NOT_FINITE),
        (encode(batch(2, gyro_x=[1.0, math.nan])), ErrorCode.NOT_FINITE),
        (encode(reading()).replace(b"0.12", b"1e999"), ErrorCode.NOT_FINITE),
        (encode(reading(accel_x=10**400)), ErrorCode.OUT_OF_RANGE),
        (encode(reading(accel_x=400.1)), ErrorCode.OUT_OF_RANGE),
        (encode(reading(gyro_x=-100.1)), ErrorCode.OUT_OF_RANGE),
        (encode(reading(timestamp=-1)), ErrorCode.OUT_OF_RANGE),
        (encode(batch(3, accel_y=[1.0, 500.0, 1.0])), ErrorCode.OUT_OF_RANGE),
        (encode(reading(device_id="other")), ErrorCode.KEY_MISMATCH),
        (encode(batch(2, device_id="other")), ErrorCode.KEY_MISMATCH),
        (encode(batch(2, gyro_x=[1.0])), ErrorCode.UNEQUAL_COLUMNS),
        (encode(batch(2, timestamp=1.0)), ErrorCode.UNEQUAL_COLUMNS),
        (encode(reading(accel_x=[1.0])), ErrorCode.UNEQUAL_COLUMNS),
        (encode(batch(2, timestamp=None)), ErrorCode.MISSING_TIMESTAMP),
        (encode(batch(10_001)), ErrorCode.TOO_MANY_READINGS),
        (encode(reading(note="x" * (1 << 20))), ErrorCode.TOO_LARGE),
        (encode(batch(2, note="x" * (1 << 20))), ErrorCode.TOO_LARGE),
        (encode(reading(timestamp=1_700_000_160.1)), ErrorCode.TIME_IN_FUTURE),
        (encode(batch(2, timestamp=[1.0, 1e12])), ErrorCode.TIME_IN_FUTURE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_way_to_be_wrong_has_its_code(value: bytes | None, expected: ErrorCode) -> None:
    assert code(value) == expected


def test_what_stands_exactly_at_a_limit_is_accepted() -> None:
    at_limit = reading(accel_x=400, gyro_z=-100, timestamp=NOW_US / 1e6 + 60)
    padding = (1 << 20) - len(encode(reading(note="")))
    values = [
        encode(at_limit),
        encode(batch(10_000)),
        encode(reading(note="x" * padding)),
    ]
    assert len(values[2]) == 1 << 20
    assert not decode(*values).invalid


def test_one_invalid_reading_makes_its_whole_message_invalid_and_no_other() -> None:
    decoded = decode(
        encode(batch(2)), encode(batch(3, gyro_x=[0.0, 101.0, 0.0])), encode(reading())
    )
    assert decoded.message.tolist() == [0, 0, 2]
    assert decoded.invalid[1].code == ErrorCode.OUT_OF_RANGE


def test_errors_keep_nothing_alive_that_was_decoded() -> None:
    for error in decode(
        encode(reading()), b"{", None, encode(batch(2, gyro_x=[]))
    ).invalid.values():
        assert error.__traceback__ is None
        assert error.__context__ is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*FIELDS, "timestamp", "device_id"]), inner, max_size=9)
    ),
    max_leaves=20,
)
NUMBERS = st.floats(-450, 450) | st.lists(st.floats(-450, 450), max_size=3)
OBJECTS = st.fixed_dictionaries(
    dict.fromkeys(FIELDS[:3], NUMBERS),
    optional={
        "timestamp": st.floats(-1, 2e9) | st.lists(st.floats(0, 2e9), max_size=3),
        "device_id": st.sampled_from(["phone", "other"]),
        **dict.fromkeys(FIELDS[3:], NUMBERS),
    },
)
VALUES = st.binary(max_size=40) | JSON.map(encode) | OBJECTS.map(encode) | st.none()


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_any_message_is_accepted_or_refused_with_a_code_alone_as_together(
    values: list[bytes | None],
) -> None:
    together = decode(*values)
    for row, value in enumerate(values):
        alone = decode(value)
        rows = together.message == row
        assert together.time_us[rows].tolist() == alone.time_us.tolist()
        assert together.axes[rows].tolist() == alone.axes.tolist()
        if alone.invalid:
            assert together.invalid[row].code == alone.invalid[0].code
            assert not rows.any()
        else:
            assert row not in together.invalid
            assert np.isfinite(alone.axes).all()


USUAL_TEXTS = [b"1", b"-0", b"0.1e1", b"1E-3", b"9007199254740993", b"2.2250738585072011e-308"]
ODD_TEXTS = [b"01", b"1.", b"NaN", b"1e400", b"true", b"null", b'"2"', b"[1]", b"[]", b"9" * 40]
NAMES = [b"timestamp", b"accel_x", b"accel_y", b"accel_z", b"gyro_x", b"gyro_y", b"gyro_z"]


@st.composite
def batches(draw: st.DrawFn) -> bytes:
    """A batch's text, with up to three things in it that aren't as expected."""
    size = draw(st.integers(0, 3))
    numbers = st.sampled_from(USUAL_TEXTS) | st.floats(-99, 99).map(lambda x: repr(x).encode())
    arrays = st.lists(numbers, min_size=size, max_size=size)
    members = {name: draw(arrays) for name in NAMES[: draw(st.sampled_from([7, 7, 4, 5]))]}
    texts = [(name, b"[" + b", ".join(array) + b"]") for name, array in members.items()]
    if draw(st.booleans()):
        texts.insert(0, (b"device_id", b'"phone"'))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*NAMES, b"device_id", b"extra", rb"accel\u005fx"]))
        odd = draw(
            st.sampled_from([*ODD_TEXTS, b'"other"', rb'"ph\u006fne"', rb'"\ud800"', b'"phone"'])
            | st.sampled_from(ODD_TEXTS).map(lambda x: b"[" + x + b"]")
            | arrays.map(lambda array: b"[" + b",".join(array) + b"]")
        )
        place = draw(st.integers(0, len(texts)))
        texts[place : place + 1] = [(name, odd)]
    text = b"{" + b",".join(b'"%s":%s' % pair for pair in texts) + b"}"
    begin = draw(st.sampled_from([b"", b"", b" ", b"\xef\xbb\xbf", b"["]))
    end = draw(st.sampled_from([b"", b"", b"\n", b",{}", b"{}", b"]", b"\0"]))
    return begin + text + end


PLAIN = b"{" + b",".join(b'"%s":[1]' % name for name in NAMES) + b"}"


@example(PLAIN.replace(b"[1]", b"[[1]]", 1), None)
@example(PLAIN.replace(b"[1]", b"1", 1), None)
@example(PLAIN.replace(b"}", b',"accel_x":[2]}'), None)
@example(PLAIN.replace(b"}", b',"accel_x":2}'), None)
@example(PLAIN.replace(b"}", b',"device_id":"other"}'), None)
@example(b"\xef\xbb\xbf" + PLAIN, None)
@example(PLAIN + PLAIN, None)
@given(batches(), st.none() | st.tuples(st.integers(0, 200), st.binary(max_size=1)))
def test_batches_are_decoded_as_by_python(value: bytes, replaced: tuple[int, bytes] | None) -> None:
    if replaced:
        value = value[: replaced[0]] + replaced[1] + value[replaced[0] + 1 :]
    decoded = decode(PLAIN, value)
    with patch("stepstream.inputs.native_json.find_native", return_value=None):
        expected = decode(PLAIN, value)
    for column, wanted in zip(decoded[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(column, wanted)
    assert {row: str(error) for row, error in decoded.invalid.items()} == {
        row: str(error) for row, error in expected.invalid.items()
    }
