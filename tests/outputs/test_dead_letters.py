from __future__ import annotations

import pytest

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.outputs import OutputRecord, make_dead_letter

RECORD_MS = 1_700_000_099_000


def letter(value: bytes | None, *headers: tuple[str, bytes | None]) -> OutputRecord:
    return make_dead_letter(
        b"phone",
        value,
        headers,
        topic="sensor-readings",
        partition=3,
        offset=1182,
        timestamp_ms=RECORD_MS,
        error=InvalidMessage(ErrorCode.OUT_OF_RANGE, "accel_x is 500 m/s^2, at most 400"),
        dead_letter_topic="sensor-readings.dlq",
    )


def test_a_dead_letter_is_the_message_as_it_came_and_why() -> None:
    assert letter(b"{}", ("trace", b"7"), ("empty", None)) == OutputRecord(
        "sensor-readings.dlq",
        b"phone",
        b"{}",
        (
            ("trace", b"7"),
            ("empty", None),
            ("stepstream-error", b"out-of-range"),
            ("stepstream-error-detail", b"accel_x is 500 m/s^2, at most 400"),
            ("stepstream-topic", b"sensor-readings"),
            ("stepstream-partition", b"3"),
            ("stepstream-offset", b"1182"),
            ("stepstream-timestamp", str(RECORD_MS).encode()),
        ),
    )


@pytest.mark.parametrize("header_size", [0, 10, 400_000, 2_000_000])
@pytest.mark.parametrize("value_size", [0, 64 << 10, 899_000, 3_000_000])
def test_a_dead_letter_always_fits_a_message(header_size: int, value_size: int) -> None:
    made = letter(b"v" * value_size, *([("h", b"x" * header_size)] if header_size else []))
    assert made.size < 1_000_000
    cut = "stepstream-truncated" in dict(made.headers)
    assert cut == (header_size + value_size > 899_980)
    if cut:
        assert made.value == b"v" * min(value_size, 64 << 10)
