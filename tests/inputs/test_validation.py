from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.inputs import ErrorCode
from tests.builders import batch, decode, encode, reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

SECOND_US = 1_000_000
BEGIN_S = 1_700_000_000
BEGIN_US = BEGIN_S * SECOND_US


def at(*seconds: float) -> bytes:
    """A message whose readings have these times, in seconds after the first moment."""
    stamps = [BEGIN_S + second for second in seconds]
    if len(stamps) == 1:
        return encode(reading(timestamp=stamps[0]))
    return encode(batch(len(stamps), timestamp=stamps))


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_each_message_has_its_own_latest_time(dtype: type) -> None:
    values = [at(5), at(5), at(5, 6), at(4, 5), at(5), at(5, 6)]
    latest_s = np.array([5, 4, 6, 4, 7, 5])
    latest_us: NDArray[Any] = (BEGIN_US + latest_s * SECOND_US).astype(dtype)
    decoded = decode(values, latest_us=latest_us)
    assert decoded.message.tolist() == [0, 2, 2, 4]
    assert {row: error.code for row, error in decoded.invalid.items()} == dict.fromkeys(
        [1, 3, 5], ErrorCode.TIME_IN_FUTURE
    )


def test_the_latest_time_holds_for_times_of_records_too() -> None:
    untimed = encode(reading(timestamp=None))
    latest_us = BEGIN_US + np.array([0, 5]) * SECOND_US
    decoded = decode([untimed, untimed], record_ms=(BEGIN_S + 5) * 1000, latest_us=latest_us)
    assert decoded.message.tolist() == [1]
    assert decoded.invalid[0].time_us == BEGIN_US + 5 * SECOND_US


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=8))
def test_a_latest_time_for_each_message_acts_as_if_each_came_alone(
    pairs: list[tuple[int, int]],
) -> None:
    latest_us = np.array([BEGIN_US + latest_s * SECOND_US for _, latest_s in pairs], np.int64)
    together = decode([at(second) for second, _ in pairs], latest_us=latest_us)
    for row, (second, latest_s) in enumerate(pairs):
        alone = decode([at(second)], latest_us=BEGIN_US + latest_s * SECOND_US)
        assert str(together.invalid.get(row)) == str(alone.invalid.get(0))
        assert together.time_us[together.message == row].tolist() == alone.time_us.tolist()


def test_a_reading_from_the_future_is_told_with_its_time() -> None:
    latest_us = BEGIN_US + 5 * SECOND_US
    decoded = decode([at(1, 5.000001, 9), at(5), at(7)], latest_us=latest_us)
    assert {row: error.time_us for row, error in decoded.invalid.items()} == {
        0: BEGIN_US + 5_000_001,
        2: BEGIN_US + 7 * SECOND_US,
    }


@pytest.mark.parametrize(
    ("stamp_us", "expected_us"), [(1000.25, 1000), (1000.5, 1000), (1001.5, 1001), (1000.75, 1001)]
)
def test_that_time_is_rounded_with_halves_down(stamp_us: float, expected_us: int) -> None:
    decoded = decode([encode(reading(timestamp=stamp_us))], latest_us=999, time_unit="us")
    assert decoded.invalid[0].time_us == expected_us


@pytest.mark.parametrize("stamp", [1e12, 1e18, 1e300, 1.7e308])
def test_that_time_fits_64_bits_however_late_it_is(stamp: float) -> None:
    error = decode([encode(reading(timestamp=stamp))]).invalid[0]
    assert error.code == ErrorCode.TIME_IN_FUTURE
    assert error.time_us == min(int(stamp * 10**6) if stamp < 1e300 else 2**63, 2**63 - 1)


def test_times_beyond_whole_microseconds_are_refused_whatever_the_latest_time() -> None:
    stamps = [2.0**53, 2.0**53 + 2, 2.0**63]
    values = [encode(reading(timestamp=stamp)) for stamp in stamps]
    for latest_us in (2**63 - 1, np.full(3, 2**63 - 1)):
        decoded = decode(values, latest_us=latest_us, time_unit="us")
        assert decoded.time_us.tolist() == [2**53]
        assert list(decoded.invalid) == [1, 2]


def test_only_readings_from_the_future_are_told_with_a_time() -> None:
    values = [
        encode(reading(accel_x=401, timestamp=1e12)),
        encode(reading(timestamp=-1)),
        encode(reading(gyro_y=None, timestamp=1e12)),
        b"{",
    ]
    assert [error.time_us for _, error in sorted(decode(values).invalid.items())] == [None] * 4


def test_what_is_infinite_in_our_units_is_out_of_range() -> None:
    values = [encode(reading(accel_x=1e308)), encode(reading(gyro_z=-1e308))]
    invalid = decode(values, accel_unit="g", gyro_unit="deg/s").invalid
    assert [invalid[row].code for row in (0, 1)] == [ErrorCode.OUT_OF_RANGE] * 2
