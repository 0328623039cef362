"""What is fuzzed: bytes become messages, and properties are checked that hold for any bytes."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs import (
    Decoded,
    ErrorCode,
    InputFormat,
    InvalidMessage,
    Messages,
    decode_device_id,
    fetch_lacking,
    make_format,
)
from stepstream.inputs.columns import FIELDS
from stepstream.settings import InputSettings, Settings, TopicSettings
from stepstream.streaming.processor import Processor
from tests.builders import python_format
from tests.detection.builders import TransparentModel
from tests.fuzzing.schema_formats import schema_formats
from tests.streaming.records import FakeRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzzing.schema_formats import SchemaFormat

    Check = Callable[[bytes], None]

NOW_US = 1_700_000_100_000_000
END = b"\x1e"
"""Between messages; the first byte of each says which device it is from, and when."""
MOST_MESSAGES = 8
MOST_AHEAD_US = 60_000_000
KEYS = [b"a", b"b", "ä".encode(), b"\xff", b"", None, b"x" * 257, b'"a"']


def messages(data: bytes) -> list[FakeRecord]:
    """The messages that some bytes stand for."""
    records = []
    for offset, part in enumerate(data.split(END)[:MOST_MESSAGES]):
        head = part[0] if part else 0
        time_ms = NOW_US // 1000 + (head >> 3) * 3_000 - 30_000
        value = None if part[1:] == b"null" else part[1:]
        records.append(FakeRecord(KEYS[head & 7], value, offset, time_ms))
    return records


_NESTED = {
    "timestamp": "t",
    **dict(zip(FIELDS[1:], ("a.x", "a.y", "a.z", "g.x", "g.y", "g.z"), strict=True)),
}
_ONE = {"timestamp": "t", **dict(zip(FIELDS[1:], ("x", "y", "z") * 2, strict=True))}
_SENSOR = {"path": "s", "accelerometer": "a", "gyroscope": "g"}

_FORMAT = make_format(InputSettings())


def _decode(values: list[bytes | None], device_ids: list[str], record_ms: list[int]) -> Decoded:
    """Decode messages, each by a clock that its record's time depends on."""
    times = np.array(record_ms, np.int64)
    return _FORMAT.decode(Messages(values, device_ids, times, times * 1000 + MOST_AHEAD_US))


def decode(data: bytes) -> None:
    """A poll of messages: each gives valid readings, or one error; alone, the same as together."""
    records = messages(data)
    ids, values = [], []
    for record in records:
        with suppress(InvalidMessage):
            ids.append(decode_device_id(record.key()))
            values.append(record.value())
    times = [record.time_ms for record in records][: len(values)]
    together = _decode(values, ids, times)
    assert together.axes.shape == (len(together.message), 6)
    assert not set(together.message.tolist()) & together.invalid.keys()
    for row, (value, device_id, time_ms) in enumerate(zip(values, ids, times, strict=True)):
        alone = _decode([value], [device_id], [time_ms])
        assert str(alone.invalid.get(0)) == str(together.invalid.get(row))
        mine = together.message == row
        assert alone.time_us.tolist() == together.time_us[mine].tolist()
        assert alone.axes.tolist() == together.axes[mine].tolist()
        latest_us = time_ms * 1000 + MOST_AHEAD_US
        assert all(0 <= time_us <= latest_us for time_us in alone.time_us.tolist())
        assert all(math.isfinite(value) for row in alone.axes.tolist() for value in row)
        assert alone.invalid or len(alone.message) or b"[" in (value or b"")


_TOPICS = TopicSettings(minutes="minutes", walks="walks")
_PROCESSOR = Processor(TransparentModel(), Settings(topics=_TOPICS))


_Outcome = tuple[list[tuple[str, bytes]], list[tuple[bytes, str]]]
"""Topics and values that are published, and offsets and codes of dead letters."""


def process(data: bytes) -> None:
    """Everything up to what is published: the same however the messages are cut into polls."""
    records = messages(data)
    at_once, one_by_one = _process([records]), _process([[record] for record in records])
    assert at_once == one_by_one
    assert _PROCESSOR.detector.device_count == 0
    published, letters = at_once
    for topic, content in published:
        value = json.loads(content)
        if topic != "minutes":
            assert value["ended_at"] > value["started_at"]
        assert topic == _TOPICS.events or value["steps"] > 0
    assert len({offset for offset, _ in letters}) == len(letters) <= len(records)
    assert all(code in set(ErrorCode) for _, code in letters)


def _process(polls: list[list[FakeRecord]]) -> _Outcome:
    partition = _PROCESSOR.add_partition("readings", 0)
    published, letters = [], []
    for poll in polls:
        (results,) = _PROCESSOR.process({partition: poll}, NOW_US)
        for record in results.records:
            if record.topic == _TOPICS.dead_letters:
                headers = dict(record.headers)
                code = headers["stepstream-error"] or b""
                letters.append((headers["stepstream-offset"] or b"", code.decode()))
            else:
                published.append((record.topic, record.value or b""))
    _PROCESSOR.remove_partition(partition)
    return sorted(published), letters


_SHAPES: list[dict[str, Any]] = [
    {"numeric_strings": True},
    {"fields": _NESTED, "readings": "data", "device_id": "id"},
    {"fields": _NESTED, "time_unit": "ms"},
    {"fields": {f: str(i) for i, f in enumerate(FIELDS)}},
    {"fields": {"start": "t", "rate": "hz"}, "time_unit": "iso8601"},
    {"fields": _ONE, "sensor": _SENSOR, "device_id": "id"},
]
SHAPED = {
    name: [make_format(InputSettings.model_validate({"format": name, **one})) for one in shapes]
    for name, shapes in {
        **dict.fromkeys(("json", "msgpack", "cbor", "json-schema"), _SHAPES),
        "senml": [{"fields": {"timestamp": "t"}, "device_id": "bn"}],
    }.items()
}
"""Formats of which no schema is needed, in some shapes."""


def _fuzz_shapes(formats: list[InputFormat]) -> Check:
    """The target of a format of which no schema is needed."""

    def check(data: bytes) -> None:
        """As `decode`, for messages of other shapes; the first byte chooses."""
        if not data:
            return
        made = formats[data[0] % len(formats)]
        values = data[1:].split(END)[:MOST_MESSAGES]
        together = open_and_decode(made, values)
        _check_readings(together)
        for row, value in enumerate(values):
            _check_row(together, row, open_and_decode(made, [value]))

    return check


def open_and_decode(made: InputFormat, values: list[bytes]) -> Decoded:
    """Decode messages of a device."""
    opened = made.open([b"phone"] * len(values), values, lambda _: [])
    ids = [(key or b"").decode(errors="replace") for key in opened.keys]
    times = np.full(len(values), NOW_US // 1000)
    decoded = made.decode(Messages(opened.values, ids, times, NOW_US + MOST_AHEAD_US))
    return decoded._replace(invalid={**opened.invalid, **decoded.invalid})


def _check_readings(decoded: Decoded) -> None:
    assert decoded.axes.shape == (len(decoded.message), 6)
    assert np.isfinite(decoded.axes).all()
    assert not set(decoded.message.tolist()) & decoded.invalid.keys()


def _check_row(together: Decoded, row: int, alone: Decoded) -> None:
    """A message gives the same with others and alone."""
    assert str(alone.invalid.get(0)) == str(together.invalid.get(row))
    mine = together.message == row
    assert alone.time_us.tolist() == together.time_us[mine].tolist()
    assert alone.axes.tolist() == together.axes[mine].tolist()


_PAIRS = [
    (make_format(settings), python_format(settings))
    for settings in map(InputSettings.model_validate, [*_SHAPES, {}])
]


def native(data: bytes) -> None:
    """The compiled decoder and Python's give the same; the first byte chooses the shape."""
    if not data:
        return
    values = data[1:].split(END)[:MOST_MESSAGES]
    one, other = (open_and_decode(made, values) for made in _PAIRS[data[0] % len(_PAIRS)])
    assert one.message.tolist() == other.message.tolist()
    assert one.time_us.tolist() == other.time_us.tolist()
    assert one.axes.tobytes() == other.axes.tobytes()
    assert {row: str(error) for row, error in one.invalid.items()} == {
        row: str(error) for row, error in other.invalid.items()
    }


def _fuzz_schemas(formats: list[SchemaFormat]) -> Check:
    """The target of a format whose messages have a schema."""

    def check(data: bytes) -> None:
        """A message among valid ones; the first byte chooses the schema.

        It gives readings or an error, and the same alone as together with others, of which some
        have the same layout of bytes.
        """
        if not data:
            return
        made, one_by_one, example = formats[data[0] % len(formats)]
        value = data[1:]
        # As long as the example, it may be taken for one of its layout.
        alike = (value + example[len(value) :])[: len(example)]
        values = [example, value, alike, example, value, example, value, example]
        fetch_lacking(made.schemas, values)
        together = open_and_decode(made, values)
        _check_readings(together)
        for row in (0, 1, 2):
            alone = open_and_decode(one_by_one, [values[row]])
            _check_row(together, row, alone)
            assert row or len(alone.message)

    return check


TARGETS: dict[str, Check] = {
    "decode": decode,
    "native": native,
    "process": process,
    **{name: _fuzz_shapes(formats) for name, formats in SHAPED.items()},
    **{name: _fuzz_schemas(formats) for name, formats in schema_formats().items()},
}
"""What is fuzzed; other than the first three, each is the format of its name."""
