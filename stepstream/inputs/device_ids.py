"""Device ids, from the keys of messages."""

from __future__ import annotations

import msgspec

from stepstream.inputs.errors import ErrorCode, InvalidMessage

__all__ = ["MAX_DEVICE_ID_BYTES", "decode_device_id"]

MAX_DEVICE_ID_BYTES = 256

_decode_string = msgspec.json.Decoder(str).decode


def decode_device_id(key: bytes | None) -> str:
    """The device id that a message's key holds as plain text.

    Raises
    ------
    InvalidMessage
        There is no key, or it is empty, over 256 bytes, not UTF-8, or a JSON string.
    """
    if key is None:
        raise InvalidMessage(ErrorCode.MISSING_KEY, "the key is the device id")
    if not 0 < len(key) <= MAX_DEVICE_ID_BYTES:
        raise InvalidMessage(
            ErrorCode.INVALID_DEVICE_ID, f"{len(key)} bytes, 1 to {MAX_DEVICE_ID_BYTES} expected"
        )
    try:
        device_id = key.decode()
    except UnicodeDecodeError:
        raise InvalidMessage(ErrorCode.INVALID_DEVICE_ID, "the key is not UTF-8") from None
    if key.startswith(b'"') and _is_json_string(key):
        # Events and counts of "phone-17" with its quotes would be those of another device.
        raise InvalidMessage(
            ErrorCode.INVALID_DEVICE_ID,
            f"the key looks like a JSON string: {device_id[:80]!r}; "
            "if all keys are JSON, set input.key to json; else serialize the key as plain text",
        )
    return device_id


def _is_json_string(key: bytes) -> bool:
    try:
        _decode_string(key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True
