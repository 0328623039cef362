from __future__ import annotations

import pytest

from stepstream.inputs import ErrorCode, InvalidMessage, decode_device_id


def test_device_ids_are_utf_8_of_up_to_256_bytes() -> None:
    assert decode_device_id("Gerät-7".encode()) == "Gerät-7"
    assert decode_device_id(b"x" * 256) == "x" * 256
    for key, expected in (
        (None, ErrorCode.MISSING_KEY),
        (b"", ErrorCode.INVALID_DEVICE_ID),
        (b"x" * 257, ErrorCode.INVALID_DEVICE_ID),
        (b"\xff", ErrorCode.INVALID_DEVICE_ID),
    ):
        with pytest.raises(InvalidMessage) as raised:
            decode_device_id(key)
        assert raised.value.code == expected
