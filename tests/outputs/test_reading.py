"""Records are read as they were written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.outputs import (
    CountValue,
    Event,
    MinuteValue,
    PublishedRecord,
    UnreadableValueError,
    WalkValue,
    encode_value,
    read_value,
)
from stepstream.outputs.encoding import JSON, Encoding
from stepstream.outputs.schema_encodings import _avro, _protobuf

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from stepstream.settings import OutputKind

AT_S = 1_700_000_001.15
VALUES: dict[OutputKind, msgspec.Struct] = {
    "step": Event("a-3-1182-0", "phone-17", 1 << 40, AT_S - 0.7, AT_S, 0.93, 0.88, "m"),
    "minute": MinuteValue("a-3-1080-0", "phone-17", "2023-11-14T22:13:00Z", 112, 115.5, 58.2, "m"),
    "walk": WalkValue("a-3-1182-0", "phone-17", AT_S - 229, AT_S, 412, 108.1, "m"),
    "count": CountValue("phone-17", 0, AT_S, "m"),
}


class FakeRegistry:
    def register(self, *_: Any) -> int:
        return 7


def encoding(kind: OutputKind, written: str) -> Encoding:
    make: dict[str, Callable[..., Encoding]] = {
        "json": lambda *_: JSON,
        "avro": _avro,
        "protobuf": _protobuf,
    }
    return make[written](kind, FakeRegistry(), "topic")


@pytest.mark.parametrize("written", ["json", "avro", "protobuf"])
@pytest.mark.parametrize("kind", VALUES)
def test_every_kind_is_read_in_every_format(kind: OutputKind, written: str) -> None:
    used = encoding(kind, written)
    headers = [("content-type", used.content_type.encode())]
    content = used.encode(VALUES[kind])
    assert read_value(kind, content, headers) == json.loads(encode_value(VALUES[kind]))
    record = PublishedRecord(kind, "topic", 0, 0, None, b"key", content, tuple(headers))
    assert record.device_of(record.read()) == "phone-17"
    for broken in (b"", b"\1" + content[1:], content[: len(content) // 2], content[:3]):
        with pytest.raises(UnreadableValueError):
            read_value(kind, broken, headers)
        unread = record._replace(value=broken)
        assert unread.read() is None
        assert unread.device_of(None) == "key"


def test_a_record_without_a_type_is_json() -> None:
    assert read_value("count", b'{"device_id":"a","more":[1]}', []) == {
        "device_id": "a",
        "more": [1],
    }
    with pytest.raises(UnreadableValueError):
        read_value("count", b"[1]", [])
