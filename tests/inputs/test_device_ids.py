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
        (b'"\xff"', ErrorCode.INVALID_DEVICE_ID),
    ):
        with pytest.raises(InvalidMessage) as raised:
            decode_device_id(key)
        assert raised.value.code == expected


@pytest.mark.parametrize("key", ['"phone-17"', '""', '"Gerät-7"', r'"a\"b"', r'"\u00e4"'])
def test_a_key_that_is_a_json_string_is_refused_with_what_to_do(key: str) -> None:
    with pytest.raises(InvalidMessage) as raised:
        decode_device_id(key.encode())
    assert raised.value.code == ErrorCode.INVALID_DEVICE_ID
    assert "looks like a JSON string" in raised.value.detail
    assert "serialize the key as plain text" in raised.value.detail


@pytest.mark.parametrize("key", ['"', '"phone', 'phone"', '"a" and "b"', 'x"phone"', "17", "null"])
def test_any_other_text_is_an_id(key: str) -> None:
    assert decode_device_id(key.encode()) == key
