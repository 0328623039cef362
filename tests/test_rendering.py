"""Records as lines for people and for programs."""

from __future__ import annotations

import json
from datetime import UTC, timedelta, timezone
from typing import Any

import pytest
from rich.console import Console

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.outputs import (
    DEAD_LETTER,
    CountValue,
    Event,
    MinuteValue,
    PublishedRecord,
    WalkValue,
    encode_value,
    make_dead_letter,
)
from stepstream.rendering import RecordTable, to_json

AT_S = 1_700_000_001.15
"""2023-11-14, 22:13:21 UTC."""
EVENT = Event("readings-3-1182-0", "phone-17", 1234, AT_S - 0.7375, AT_S, 0.93, 0.88, "walk-4.1")
MINUTE = MinuteValue(
    "readings-3-1080-0", "phone-17", "2023-11-14T22:13:00Z", 112, 115.5, 58.2, "walk-4.1"
)
WALK = WalkValue("readings-3-1182-0", "phone-17", AT_S - 229, AT_S, 412, 108.1, "walk-4.1")
COUNT = CountValue("phone-17", 1234, AT_S, "walk-4.1")
ALL = ("step", "minute", "walk", "count", DEAD_LETTER)


def published(
    kind: str, value: Any, key: bytes | None = b"phone-17", **headers: bytes
) -> PublishedRecord:
    encoded = value if value is None or isinstance(value, bytes) else encode_value(value)
    named = tuple((name.replace("_", "-"), content) for name, content in headers.items())
    return PublishedRecord(kind, f"{kind}s", 2, 17, round(AT_S * 1000) + 400, key, encoded, named)


def letter(value: bytes | None, key: bytes | None = b"phone-18") -> PublishedRecord:
    made = make_dead_letter(
        key,
        value,
        [("trace", b"7")],
        topic="readings",
        partition=3,
        offset=1182,
        timestamp_ms=1,
        error=InvalidMessage(ErrorCode.OUT_OF_RANGE, "accel_x is 500 m/s^2, at most 400"),
        dead_letter_topic="dlq",
    )
    return PublishedRecord(DEAD_LETTER, "dlq", 2, 17, 1_700_000_002_000, key, value, made.headers)


def lines(*records: PublishedRecord, kinds: tuple[str, ...] = ALL, **more: Any) -> list[str]:
    table = RecordTable(kinds, zone=UTC, **more)
    return [table.head().plain, *(line.plain for one in records for line in table.lines(one))]


def test_each_kind_has_its_columns() -> None:
    shown = lines(
        published("step", EVENT),
        published("minute", MINUTE),
        published("walk", WALK),
        published("count", COUNT),
    )
    assert shown == [
        "time         what         device         steps  cadence      lasted",
        "2023-11-14 UTC+0000",
        "22:13:21.15  step         phone-17      #1,234               0.74 s  start 0.93, end 0.88",
        "22:13        minute       phone-17         112  116/min      58.2 s",
        "22:09:32     walk         phone-17         412  108/min  3 min 49 s  until 22:13:21",
        "22:13:21     count        phone-17       1,234                       in all",
    ]


def test_columns_that_nothing_has_are_left_out() -> None:
    assert lines(published("count", COUNT), kinds=("count",)) == [
        "time         device         steps",
        "2023-11-14 UTC+0000",
        "22:13:21     phone-17       1,234  in all",
    ]


def test_a_dead_letter_says_why_where_from_and_how_it_begins() -> None:
    head, _, first, second = lines(letter(b'{"accel_x":500}'), kinds=(DEAD_LETTER,))
    assert head == "time         device"
    assert first == "22:13:22     phone-18      out-of-range: accel_x is 500 m/s^2, at most 400"
    assert second == '  readings-3 offset 1182, 15 bytes: {"accel_x":500}'
    *_, first, second = lines(letter(None, None))
    assert "(no key)" in first
    assert second == "  readings-3 offset 1182, no value"


def test_a_long_value_is_cut_to_a_line_of_the_terminal() -> None:
    *_, second = lines(letter(b"a" * 1000))
    assert second.endswith("1,000 bytes: " + "a" * 199 + "…")
    *_, second = lines(letter(b"a" * 1000), width=80)
    assert len(second) == 80
    assert second.endswith("a…")


def test_another_day_begins_with_a_line_in_the_time_zone() -> None:
    table = RecordTable(("step",), zone=timezone(timedelta(hours=2)))
    day, first = [line.plain for line in table.lines(published("step", EVENT))]
    assert day == "2023-11-15 UTC+0200"
    assert first.startswith("00:13:21.15")
    assert len(table.lines(published("step", EVENT))) == 1


def test_the_source_is_said_where_there_are_several() -> None:
    record = published("step", EVENT, stepstream_topic=b"watches")
    assert lines(record, with_source=True)[-1].endswith("end 0.88  watches")
    assert "watches" not in lines(record)[-1]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"\x00\x01\xff",
        b"[1]",
        b"{}",
        b'"text"',
        b'{"device_id": 5}',
        b'{"device_id": "phone-17", "step_count": "many"}',
        b'{"minute": "soon"}',
    ],
)
def test_a_value_that_is_not_understood_is_shown_as_it_is(value: bytes) -> None:
    for kind in ALL:
        *_, first, second = lines(published(kind, value))
        assert "phone-17" in first
        assert first.endswith("can't be read")
        place, _, rest = second.partition(" bytes: ")
        assert place == f"  {kind}s-2 offset 17, {len(value)}"
        assert rest == value.decode("utf-8", "backslashreplace").replace("\0", "\\x00").replace(
            "\1", "\\x01"
        )


@pytest.mark.parametrize("moment", [1e300, -1e300, 1e12, -1e12])
def test_no_time_is_too_far_away(moment: float) -> None:
    event = Event("a-0-0-0", "phone-17", 1, moment, moment, 0.5, 0.5, "m")
    walk = WalkValue("a-0-0-0", "phone-17", -moment, moment, 2, 100.0, "m")
    minute = MinuteValue("a-0-0-0", "phone-17", "9999-99-99", 1, 60.0, 1.0, "m")
    for kind, value in (("step", event), ("walk", walk), ("minute", minute)):
        assert "phone-17" in lines(published(kind, value))[-1]


def test_a_tombstone_is_a_device_that_was_forgotten() -> None:
    assert lines(published("count", None))[-1].endswith("forgotten")


def test_nothing_of_a_record_reaches_the_terminal_as_a_command() -> None:
    evil = "\x1b[2J\r\nphone\x9b"
    event = Event("a", evil, 1, AT_S, AT_S, 0.5, 0.5, "m")
    broken = published("step", evil.encode(), evil.encode(), stepstream_topic=evil.encode())
    records = [published("step", event), broken, letter(evil.encode(), evil.encode())]
    shown = lines(*records, with_source=True)
    assert all(line.isprintable() for line in shown)
    assert any("\\x1b[2J\\r\\nphone\\x9b" in line for line in shown)


def test_the_column_of_devices_grows_with_their_names_within_bounds() -> None:
    names = ["a", "b" * 20, "c", "d" * 100, "e"]
    events = [Event("a", name, 1, AT_S, AT_S, 0.5, 0.5, "m") for name in names]
    _, _, *rows = lines(*(published("step", one) for one in events), kinds=("step",))
    places = [row.index("#1") for row in rows]
    assert places == [31, 39, 39, 55, 55]
    assert lines(published("step", events[0]), kinds=("step",), devices=["b" * 20])[-1].index(
        "#1"
    ) == (39)


def test_colours_tell_kinds_apart() -> None:
    table = RecordTable(ALL, zone=UTC)
    console = Console(force_terminal=True, color_system="truecolor", width=120, soft_wrap=True)
    with console.capture() as captured:
        for one in (published("step", EVENT), letter(b"{")):
            for line in table.lines(one):
                console.print(line)
    text = captured.get()
    assert "\x1b[32mstep" in text
    assert "\x1b[1;31mdead letter" in text


def test_a_program_gets_all_that_there_is() -> None:
    record = published("minute", MINUTE, stepstream_topic=b"watches")
    assert json.loads(to_json(record)) == {
        "what": "minute",
        "topic": "minutes",
        "partition": 2,
        "offset": 17,
        "time": "2023-11-14T22:13:21.550Z",
        "key": "phone-17",
        "source": {"topic": "watches"},
        "value": json.loads(encode_value(MINUTE)),
    }
    assert json.loads(to_json(letter(b'{"accel_x":500}'))) == {
        "what": "dead-letter",
        "topic": "dlq",
        "partition": 2,
        "offset": 17,
        "time": "2023-11-14T22:13:22.000Z",
        "key": "phone-18",
        "error": "out-of-range",
        "detail": "accel_x is 500 m/s^2, at most 400",
        "source": {"topic": "readings", "partition": 3, "offset": 1182},
        "value": '{"accel_x":500}',
    }
    assert json.loads(to_json(published("step", b"\xff", b"\xfe")))["value_base64"] == "/w=="
    assert json.loads(to_json(published("step", b"\xff", b"\xfe")))["key_base64"] == "/g=="
    assert json.loads(to_json(published("count", None, None)))["value"] is None
    assert json.loads(to_json(published("step", b"{")))["value"] == "{"
    assert json.loads(to_json(published("step", EVENT)._replace(time_ms=10**18)))["time"] is None
