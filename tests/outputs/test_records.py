from __future__ import annotations

import pytest

from stepstream.outputs import OutputRecord


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (OutputRecord("topic", None, None), 0),
        (OutputRecord("topic", b"key", None), 3),
        (OutputRecord("topic", b"key", b"value", partition=7), 8),
        (OutputRecord("topic", b"key", b"value", (("a", b"123"), ("b", None))), 13),
        (OutputRecord("topic", None, b"", (("ä", "ä".encode()),)), 4),
    ],
)
def test_the_size_is_that_of_key_value_and_headers(record: OutputRecord, expected: int) -> None:
    assert record.size == expected
