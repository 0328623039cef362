"""Which device a message is of: from its key, a header, or a path."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.paths import MISSING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.inputs.columns import Headers
    from stepstream.inputs.layout import Layout
    from stepstream.inputs.paths import Path

__all__ = ["KEY_DECODERS", "KEY_ENCODERS", "id_of_document", "id_of_header", "id_of_readings"]


def _decode_json(key: bytes) -> bytes:
    try:
        content = orjson.loads(key)
    except orjson.JSONDecodeError:
        raise InvalidMessage(ErrorCode.INVALID_DEVICE_ID, "the key is not JSON") from None
    return _id_bytes(content, "the key")


def _decode_integer(size: int) -> Callable[[bytes], bytes]:
    def decode(key: bytes) -> bytes:
        _check_length(key, size)
        return str(int.from_bytes(key, "big", signed=True)).encode()

    return decode


def _decode_uuid(key: bytes) -> bytes:
    _check_length(key, 16)
    return str(uuid.UUID(bytes=key)).encode()


KEY_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "json": _decode_json,
    "int32": _decode_integer(4),
    "int64": _decode_integer(8),
    "uuid": _decode_uuid,
}
"""By encoding: what makes a device id, UTF-8, of a key; keys that are text need nothing."""


KEY_ENCODERS: dict[str, Callable[[str], bytes]] = {
    "text": str.encode,
    "int32": lambda device_id: int(device_id).to_bytes(4, "big", signed=True),
    "int64": lambda device_id: int(device_id).to_bytes(8, "big", signed=True),
    "uuid": lambda device_id: uuid.UUID(device_id).bytes,
}
"""By encoding: what makes the key of a device id; JSON can write one id in several ways."""


def id_of_header(headers: Headers, name: str) -> bytes:
    """The device id in a header; of several with the name, the last.

    Raises
    ------
    InvalidMessage
        There is no such header.
    """
    for header, value in reversed(headers):
        if header == name and value is not None:
            return _id_bytes(value, f"header {name}")
    raise InvalidMessage(ErrorCode.MISSING_KEY, f"header {name}, the device id, is missing")


def id_of_document(document: Any, layout: Layout) -> bytes:
    """The device id in a document, see `id_of_readings`."""
    path = layout.device_id
    if path is None:
        raise RuntimeError("the layout has no path of the device id")
    items = layout.items(document)
    found = [] if items is None else [path.find(item) for item in items]
    return id_of_readings(found, path.find(document), path)


def id_of_readings(found: Sequence[Any], beside: Any, path: Path) -> bytes:
    """The device id in the readings of a message if the first has it, else the one beside them.

    Raises
    ------
    InvalidMessage
        It is missing, no id, or the readings are of several devices.
    """
    where = str(path)
    if not found or found[0] is None or found[0] is MISSING:
        return _id_bytes(beside, where)
    ids = {_id_bytes(one, where) for one in found}
    if len(ids) > 1:
        raise InvalidMessage(ErrorCode.KEY_MISMATCH, f"{where}: {len(ids)} devices in one message")
    return ids.pop()


def _id_bytes(content: Any, where: str) -> bytes:
    """A device id as UTF-8; its length is checked later, with those of keys."""
    if isinstance(content, str):
        try:
            return content.encode()
        except UnicodeEncodeError:
            raise InvalidMessage(ErrorCode.INVALID_DEVICE_ID, f"{where} is not UTF-8") from None
    if isinstance(content, bytes):
        return content
    if isinstance(content, int | np.integer) and not isinstance(content, bool):
        if abs(int(content)) >> 64:
            raise InvalidMessage(ErrorCode.INVALID_DEVICE_ID, f"{where}: over 64 bits")
        return str(int(content)).encode()
    if isinstance(content, uuid.UUID):
        return str(content).encode()
    if content is MISSING or content is None:
        raise InvalidMessage(ErrorCode.MISSING_FIELD, f"{where}, the device id, is missing")
    raise InvalidMessage(
        ErrorCode.INVALID_DEVICE_ID, f"{where}: expected text or an integer as the device id"
    )


def _check_length(key: bytes, size: int) -> None:
    if len(key) != size:
        raise InvalidMessage(
            ErrorCode.INVALID_DEVICE_ID, f"the key has {len(key)} bytes, {size} expected"
        )
