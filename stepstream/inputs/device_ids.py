"""Device ids, from the keys of messages."""

from __future__ import annotations

from stepstream.inputs.errors import ErrorCode, InvalidMessage

__all__ = ["MAX_DEVICE_ID_BYTES", "decode_device_id"]

MAX_DEVICE_ID_BYTES = 256


def decode_device_id(key: bytes | None) -> str:
    """The device id that a message's key holds.

    Raises
    ------
    InvalidMessage
        There is no key, or it is empty, over 256 bytes, or not UTF-8.
    """
    if key is None:
        raise InvalidMessage(ErrorCode.MISSING_KEY, "the key is the device id")
    if not 0 < len(key) <= MAX_DEVICE_ID_BYTES:
        raise InvalidMessage(
            ErrorCode.INVALID_DEVICE_ID, f"{len(key)} bytes, 1 to {MAX_DEVICE_ID_BYTES} expected"
        )
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise InvalidMessage(ErrorCode.INVALID_DEVICE_ID, "the key is not UTF-8") from None
