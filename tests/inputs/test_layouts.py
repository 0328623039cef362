"""What is invalid and why, and properties that hold for any message and any layout."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.inputs import ACCELEROMETER_BIT, GYROSCOPE_BIT, Decoded, ErrorCode, make_format
from stepstream.inputs.general import GeneralFormat
from stepstream.inputs.layout import Layout
from stepstream.inputs.parsers import make_parser
from stepstream.settings import InputSettings, RegistrySettings
from tests.builders import decode, decode_with, encode, reading
from tests.inputs.forms import AXES, NESTED, PLACES

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("each_decoder")

NOW_US = 1_800_000_000_000_000
ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "json": encode,
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}
TIME = 1_700_000_000.0
ITEM = {"ts": TIME, "acc": {"x": 1, "y": 2, "z": 3}, "gyro": {"x": 4, "y": 5, "z": 6}}
LIST: dict[str, Any] = {"readings": "data", "fields": NESTED}
SENSOR: dict[str, Any] = {
    "sensor": {"path": "name", "accelerometer": "acc", "gyroscope": "gyro"},
    "fields": {
        "timestamp": "t",
        **dict(zip(AXES, ("v.x", "v.y", "v.z", "v.x", "v.y", "v.z"), strict=True)),
    },
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**ITEM, **changes}


def invalid(document: Any, **settings: Any) -> tuple[ErrorCode, str]:
    value = document if isinstance(document, bytes) else encode(document)
    decoded = decode([value], record_ms=1, **settings)
    assert not len(decoded.message)
    return decoded.invalid[0].code, decoded.invalid[0].detail


@pytest.mark.parametrize(
    ("document", "settings", "code", "said"),
    [
        (b"{", {"fields": NESTED}, "invalid-json", "end of data"),
        (b'{"ts": "\xff"}', {"fields": NESTED}, "invalid-json", "UTF-8"),
        (b"[" * 100_000, {"fields": NESTED}, "invalid-json", "depth"),
        (17, {"fields": NESTED}, "wrong-type", "expected an object or a list"),
        ("text", {"fields": NESTED}, "wrong-type", "expected an object or a list"),
        (None, {"fields": NESTED}, "wrong-type", "expected an object or a list"),
        ({}, {"fields": NESTED}, "missing-field", "acc.x is missing"),
        (changed(acc={"x": 1, "y": 2}), {"fields": NESTED}, "missing-field", "acc.z is missing"),
        (changed(acc=None), {"fields": NESTED}, "missing-field", "acc.x is missing"),
        (changed(acc=[1, 2, 3]), {"fields": NESTED}, "missing-field", "acc.x is missing"),
        (
            {"ts": TIME, "acc": '{"x": 1, "y": 2, "z": 3}'},
            {"fields": NESTED},
            "missing-field",
            "acc.x is missing: acc is text",
        ),
        (
            {"ts": [TIME] * 2, "acc": [{"x": 1, "y": 2, "z": 3}, {"x": 1, "y": 2}]},
            {
                "fields": {
                    "timestamp": "ts",
                    **{f"accel_{axis}": f"acc.*.{axis}" for axis in "xyz"},
                }
            },
            "missing-field",
            "acc.*.z is missing",
        ),
        (
            {"ts": TIME, "acc": {"x": 1, "y": 2, "z": 3}},
            {
                "fields": {
                    "timestamp": "ts",
                    **{f"accel_{axis}": f"acc.*.{axis}" for axis in "xyz"},
                }
            },
            "missing-field",
            "acc.*.x is missing",
        ),
        ({"data": "W10="}, {**LIST, "readings": "data.rows"}, "missing-field", "data is text"),
        (changed(gyro={"x": 1}), {"fields": NESTED}, "missing-field", "gyro.y is missing"),
        (changed(ts=None), {"fields": NESTED}, "missing-timestamp", "ts is missing"),
        (changed(ts="1"), {"fields": NESTED}, "wrong-type", "ts: expected a number, got text '1'"),
        (
            changed(ts=True),
            {"fields": NESTED},
            "wrong-type",
            "ts: expected a number, got a boolean",
        ),
        (changed(ts={}), {"fields": NESTED}, "wrong-type", "ts: expected a number, got an object"),
        (changed(ts=-1), {"fields": NESTED}, "out-of-range", "before 1970"),
        (changed(ts=1e300), {"fields": NESTED}, "time-in-future", "ahead of the clock"),
        (
            changed(ts=1e300, gyro=None),
            {"fields": NESTED, "numeric_strings": True},
            "out-of-range",
            "ts: a time of 1e+300",
        ),
        (
            changed(acc={"x": math.nan, "y": 0, "z": 0}),
            {"fields": NESTED},
            "not-finite",
            "acc.x is nan",
        ),
        (
            changed(acc={"x": 401, "y": 0, "z": 0}),
            {"fields": NESTED},
            "out-of-range",
            "acc.x is 401",
        ),
        (
            changed(acc={"x": "nan", "y": 0, "z": 0}),
            {"fields": NESTED, "numeric_strings": True},
            "not-finite",
            "acc.x is nan",
        ),
        (
            changed(acc={"x": "one", "y": 0, "z": 0}),
            {"fields": NESTED, "numeric_strings": True},
            "wrong-type",
            "acc.x: expected a number, got text 'one'",
        ),
        (
            changed(ts="yesterday"),
            {"fields": NESTED, "time_unit": "iso8601"},
            "wrong-type",
            "ts: expected a time in ISO 8601, got text 'yesterday'",
        ),
        ({"dat": []}, LIST, "missing-field", "data is missing"),
        ({"data": 5}, LIST, "wrong-type", "data: expected a list"),
        (
            b'{"data": [{"ts": 1, "acc": {"x": 1, "y": 2, "z": 3}}], "\xff": 1}',
            LIST,
            "invalid-json",
            "UTF-8",
        ),
        ({"data": [ITEM, {}]}, LIST, "missing-field", "acc.x is missing"),
        ({"data": [ITEM, 5]}, LIST, "missing-field", "acc.x is missing"),
        ({"data": [ITEM] * 10_001}, LIST, "too-many-readings", "10001 readings"),
        (
            {"ts": TIME, "data": [{"acc": ITEM["acc"]}] * 2},
            LIST,
            "missing-timestamp",
            "ts is one time for several readings",
        ),
        (
            {"t": [TIME], "data": [[1, 2, 3]] * 2},
            {
                "readings": "data",
                "fields": {"timestamp": "t", "accel_x": "0", "accel_y": "1", "accel_z": "2"},
            },
            "unequal-columns",
            "t has 1 times for 2 readings",
        ),
        (
            {"timestamp": [1, 2], "accel_x": [1, 2], "accel_y": [1, 2], "accel_z": [1]},
            {"time_unit": "iso8601"},
            "wrong-type",
            "timestamp",
        ),
        (
            {"timestamp": [1, 2], "accel_x": [1, 2], "accel_y": [1, 2], "accel_z": [1]},
            {"numeric_strings": True},
            "unequal-columns",
            "lists of 2 and 1 numbers",
        ),
        (
            {"timestamp": 1, "accel_x": [1, 2], "accel_y": [1, 2], "accel_z": 1},
            {"numeric_strings": True},
            "unequal-columns",
            "some fields are lists, some numbers",
        ),
        (
            {"accel_x": [1, 2], "accel_y": [1, 2], "accel_z": [1, 2]},
            {"numeric_strings": True},
            "missing-timestamp",
            "needs timestamps",
        ),
        (
            {"s": 1, "hz": 0, "accel_x": [1, 2], "accel_y": [1, 2], "accel_z": [1, 2]},
            {"fields": {"start": "s", "rate": "hz"}},
            "out-of-range",
            "hz is 0",
        ),
        (
            {"s": 1, "hz": 1e-320, "accel_x": [1, 2], "accel_y": [1, 2], "accel_z": [1, 2]},
            {"fields": {"start": "s", "rate": "hz"}},
            "out-of-range",
            "hz is",
        ),
        (
            {"s": 1, "accel_x": [1, 2], "accel_y": [1, 2], "accel_z": [1, 2]},
            {"fields": {"start": "s", "rate": "hz"}},
            "missing-timestamp",
            "hz is missing",
        ),
        ({"id": None, **ITEM}, {"device_id": "id", "fields": NESTED}, "missing-field", "id, the"),
        ({"id": [], **ITEM}, {"device_id": "id", "fields": NESTED}, "invalid-device-id", "id:"),
        (
            [{"id": "a", **ITEM}, {"id": "b", **ITEM}],
            {"device_id": "id", "fields": NESTED},
            "key-mismatch",
            "id: 2 devices in one message",
        ),
        ({}, {"device_id": "header:dev"}, "missing-key", "header dev"),
        ({"name": "acc", "t": 1}, SENSOR, "missing-field", "v.x is missing"),
        ({"t": 1, "v": {"x": 1, "y": 1, "z": 1}}, SENSOR, "missing-field", "name is missing"),
        ({"name": ["acc"], "t": 1}, SENSOR, "wrong-type", "name: expected the name"),
        (b"\xc1", {"format": "msgpack"}, "invalid-encoding", ""),
        (b"\x91" * 5000, {"format": "msgpack"}, "invalid-encoding", ""),
        (
            msgspec.msgpack.encode(reading(accel_x=math.inf)),
            {"format": "msgpack"},
            "not-finite",
            "accel_x is inf",
        ),
        (b"\xff", {"format": "cbor"}, "invalid-encoding", ""),
        (b"\x9b" + b"\xff" * 8, {"format": "cbor"}, "invalid-encoding", ""),
        (
            cbor2.dumps(reading(accel_x=b"abc")),
            {"format": "cbor"},
            "wrong-type",
            "accel_x: expected a number, got bytes",
        ),
    ],
)
def test_an_invalid_message_says_which_path_is_wrong(
    document: Any, settings: dict[str, Any], code: str, said: str
) -> None:
    found, detail = invalid(document, **settings)
    assert found == code
    assert said in detail


def test_a_null_value_is_one_in_every_format() -> None:
    given: list[dict[str, Any]] = [{"fields": NESTED}, {"format": "cbor"}]
    for settings in given:
        assert decode([None], **settings).invalid[0].code == ErrorCode.NULL_VALUE


def test_a_message_of_one_mebibyte_is_the_largest() -> None:
    value = encode({**ITEM, "padding": "x" * (1 << 20)})
    assert decode([value], fields=NESTED).invalid[0].code == ErrorCode.TOO_LARGE


def test_a_list_without_readings_gives_none_and_is_valid() -> None:
    given: list[tuple[Any, dict[str, Any]]] = [([], {"fields": NESTED}), ({"data": []}, LIST)]
    for document, settings in given:
        decoded = decode([encode(document)], **settings)
        assert not len(decoded.message)
        assert not decoded.invalid


@pytest.mark.parametrize("kind", ["json", "msgpack"])
def test_the_rate_may_be_a_setting(kind: str) -> None:
    axes = {name: [1.0, 2.0, 3.0] for name in AXES}
    given: dict[str, Any] = {"format": kind, "rate": 50}
    message = ENCODERS[kind]({"t0": TIME, **axes})
    found = decode([message], record_ms=1, fields={"start": "t0"}, **given)
    expected = [TIME * 1e6 + 20_000 * number for number in range(3)]
    assert found.time_us.tolist() == expected
    message = ENCODERS[kind](axes)
    found = decode([message], record_ms=round(TIME * 1000) + 40, time_unit="record", **given)
    assert found.time_us.tolist() == expected


def test_what_is_not_wanted_may_be_anything() -> None:
    value = b'{"ts": 1700000000, "acc": {"x": 1, "y": 2, "z": 3}, "more": [NaN, {"ts": "x"}]}'
    assert decode([value], fields=NESTED).axes.tolist() == [[1, 2, 3, 0, 0, 0]]


def test_the_sensors_of_a_message_and_of_its_items() -> None:
    def one(name: str, t: float, x: float) -> dict[str, Any]:
        return {"name": name, "t": TIME + t, "v": {"x": x, "y": 0, "z": 0}}

    singles = decode([encode(one("acc", 0, 1)), encode(one("gyro", 1, 2))], **SENSOR)
    assert singles.sensors is not None
    assert singles.sensors.tolist() == [ACCELEROMETER_BIT, GYROSCOPE_BIT]
    assert singles.axes.tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 2, 0, 0]]
    items = [one("acc", 0, 1), one("gyro", 1, 2), one("light", 2, 3), one("acc", 3, 4)]
    listed = decode([encode(items), encode(one("light", 0, 0))], **SENSOR)
    assert listed.sensors is not None
    assert listed.message.tolist() == [0, 0, 0]
    assert listed.sensors.tolist() == [ACCELEROMETER_BIT, ACCELEROMETER_BIT, GYROSCOPE_BIT]
    assert listed.axes.tolist() == [[1, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0], [0, 0, 0, 2, 0, 0]]
    assert not listed.invalid


def test_one_invalid_item_makes_the_message_invalid_for_both_sensors() -> None:
    items = [{"name": "acc", "t": TIME, "v": {"x": 1, "y": 1, "z": 1}}, {"name": "gyro", "t": TIME}]
    decoded = decode([encode({"data": items})], readings="data", **SENSOR)
    assert not len(decoded.message)
    assert decoded.invalid[0].detail == "v.x is missing"


class Arrays:
    """A parser that makes arrays, as those of binary formats do; a message is a number."""

    def __init__(self, documents: list[Any]) -> None:
        self._documents = documents

    def parse(self, value: bytes) -> Any:
        return self._documents[int(value)]


ROWS = np.arange(1, 22, dtype=np.float64).reshape(3, 7)
TABLE = np.array([tuple(row) for row in ROWS], [(name, "f8") for name in ("ts", *AXES)])
INNER = np.dtype([("x", "f4"), ("y", "f4"), ("z", "f4")])
NESTED_TABLE = np.array(
    [(row[0], tuple(row[1:4]), tuple(row[4:])) for row in ROWS],
    [("ts", "f8"), ("acc", INNER), ("gyro", INNER)],
)
BY_NAME = {"timestamp": "ts"}


@pytest.mark.parametrize(
    ("document", "settings"),
    [
        ({name: TABLE[name] for name in TABLE.dtype.names or ()}, {"fields": BY_NAME}),
        ({"data": TABLE}, {"fields": BY_NAME, "readings": "data"}),
        (TABLE, {"fields": BY_NAME}),
        ({"data": NESTED_TABLE}, {"fields": NESTED, "readings": "data"}),
        ({"data": ROWS}, {"fields": PLACES, "readings": "data"}),
        (ROWS, {"fields": PLACES}),
        ({"data": list(ROWS)}, {"fields": PLACES, "readings": "data"}),
        (
            {"ts": ROWS[:, 0], "data": ROWS},
            {"fields": {**PLACES, "timestamp": "ts"}, "readings": "data"},
        ),
        (
            {"ts": (ROWS[:, 0] * 1e6).astype("M8[us]"), **{n: TABLE[n] for n in AXES}},
            {"fields": BY_NAME, "time_unit": "ms"},
        ),
        (
            {"ts": (ROWS[:, 0] * 1000).astype(np.int64), **{n: TABLE[n] for n in AXES}},
            {"fields": BY_NAME, "time_unit": "ms"},
        ),
    ],
)
def test_arrays_stand_for_lists(document: Any, settings: dict[str, Any]) -> None:
    made = GeneralFormat(Arrays([document]), Layout.of(InputSettings(**settings)))
    decoded = decode_with(made, [b"0", b"0"], ["a", "b"], np.zeros(2, np.int64), NOW_US)
    assert not decoded.invalid
    assert decoded.message.tolist() == [0, 0, 0, 1, 1, 1]
    assert decoded.time_us.tolist() == (ROWS[:, 0] * 1e6).tolist() * 2
    assert decoded.axes.tolist() == ROWS[:, 1:].tolist() * 2


@pytest.mark.parametrize(
    "wrong",
    [np.array(["a", "b"]), np.array([True, False]), TABLE, ROWS, np.array(1.0), np.array([None])],
)
def test_arrays_of_other_things_are_of_the_wrong_type(wrong: Any) -> None:
    document = {"ts": 1.0, "accel_x": wrong, "accel_y": wrong, "accel_z": wrong}
    made = GeneralFormat(Arrays([document]), Layout.of(InputSettings(fields={"timestamp": "ts"})))
    decoded = decode_with(made, [b"0"], ["a"], np.zeros(1, np.int64), NOW_US)
    assert decoded.invalid[0].code in {ErrorCode.WRONG_TYPE, ErrorCode.MISSING_FIELD}
    assert "accel_x" in decoded.invalid[0].detail


NAMES = ("a", "x.y", "9", "é")


@st.composite
def layouts(draw: st.DrawFn) -> tuple[list[tuple[Any, Any]], str | None]:
    """Two parts of a path for each field, none within another; and the path of the readings."""
    readings = draw(st.sampled_from([None, "list", "in.the.list"]))
    # A message that is a list itself has readings in it, not fields.
    outer = range(4) if readings and draw(st.booleans()) else NAMES
    pairs = [
        (first, second)
        for first in outer
        for second in (range(4) if draw(st.booleans()) else NAMES)
    ]
    return draw(st.permutations(pairs))[: 1 + len(AXES)], readings


def document_of(paths: list[tuple[Any, Any]], numbers: dict[str, float]) -> Any:
    """A document in which the numbers are at their paths."""
    tree: dict[Any, Any] = {}
    for (first, second), name in zip(paths, ("timestamp", *AXES), strict=True):
        tree.setdefault(first, {})[second] = numbers[name]
    return _listed({part: _listed(inner) for part, inner in tree.items()})


def _listed(tree: dict[Any, Any]) -> Any:
    if not all(isinstance(part, int) for part in tree):
        return tree
    return [tree.get(place) for place in range(max(tree) + 1)]


READINGS = st.fixed_dictionaries(
    {
        "timestamp": st.integers(0, 1_700_000_000),
        **{name: st.floats(-99, 99, width=32) for name in AXES},
    }
)


@given(
    layout=layouts(),
    rows=st.lists(READINGS, min_size=1, max_size=4),
    encoding=st.sampled_from([*ENCODERS]),
)
def test_any_structure_gives_what_was_put_into_it(
    layout: tuple[list[tuple[Any, Any]], str | None], rows: list[dict[str, float]], encoding: str
) -> None:
    paths, readings = layout
    documents: list[Any] = [document_of(paths, row) for row in rows]
    if readings is not None:
        wrapped: Any = documents
        for part in reversed(readings.split(".")):
            wrapped = {part: wrapped}
        documents = [wrapped]
    values = [ENCODERS[encoding](document) for document in documents]
    fields = {
        name: ".".join(str(part).replace(".", "\\.") for part in path)
        for name, path in zip(("timestamp", *AXES), paths, strict=True)
    }
    settings: dict[str, Any] = {"fields": fields, "readings": readings, "format": encoding}
    decoded = decode(values, latest_us=NOW_US, **settings)
    assert not decoded.invalid
    assert decoded.time_us.tolist() == [row["timestamp"] * 1_000_000 for row in rows]
    assert decoded.axes.tolist() == [[row[name] for name in AXES] for row in rows]


WANTED = st.sampled_from(
    ["ts", "acc", "gyro", "x", "y", "z", "data", "t", "v", "name", "id", "t0", "hz", *AXES]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(["acc", "gyro", "1", "nan", "2026-01-01T00:00:00Z", "", "9" * 400]),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WANTED, inner, max_size=5),
    max_leaves=20,
)
LAYOUTS: list[dict[str, Any]] = [
    {"fields": NESTED},
    {"fields": NESTED, "numeric_strings": True, "device_id": "id"},
    LIST,
    {"fields": PLACES},
    {**SENSOR, "device_id": "id"},
    {**SENSOR, "readings": "data", "time_unit": "iso8601"},
    {"fields": {"start": "t0", "rate": "hz"}, "time_unit": "ms"},
    {"fields": {"rate": "hz"}, "time_unit": "record", "readings": "data"},
]


def same(left: Decoded, right: Decoded, row: int) -> bool:
    mine = right.message == row
    return (
        str(left.invalid.get(0)) == str(right.invalid.get(row))
        and left.time_us.tolist() == right.time_us[mine].tolist()
        and left.axes.tolist() == right.axes[mine].tolist()
    )


@given(
    settings=st.sampled_from(LAYOUTS),
    documents=st.lists(st.one_of(DOCUMENTS, st.just(ITEM), st.just({"data": [ITEM]})), max_size=4),
    encoding=st.sampled_from([*ENCODERS]),
)
def test_whatever_a_message_holds_it_affects_no_other(
    settings: dict[str, Any], documents: list[Any], encoding: str
) -> None:
    made = make_format(InputSettings(**{**settings, "format": encoding}))
    values = []
    for document in documents:
        try:
            values.append(ENCODERS[encoding](document))
        except (OverflowError, ValueError):
            values.append(b"integers of over 64 bits aren't in MessagePack")
    times = np.full(len(values), 1_700_000_000_000)
    together = decode_with(made, values, ["phone"] * len(values), times, NOW_US)
    assert not set(together.message.tolist()) & together.invalid.keys()
    assert np.isfinite(together.axes).all()
    for row, value in enumerate(values):
        alone = decode_with(made, [value], ["phone"], times[:1], NOW_US)
        assert same(alone, together, row)


@given(
    settings=st.sampled_from(LAYOUTS[:5]),
    documents=st.lists(
        st.one_of(DOCUMENTS, st.just(ITEM), st.just([ITEM]), st.just({"data": [ITEM, ITEM]})),
        max_size=4,
    ),
    encoding=st.sampled_from(["json", "msgpack"]),
)
def test_structs_give_what_documents_give(
    settings: dict[str, Any], documents: list[Any], encoding: str
) -> None:
    settings = {**settings, "format": encoding, "numeric_strings": False}
    made = InputSettings(**settings)
    by_structs = make_format(made)
    by_documents = GeneralFormat(make_parser(made, RegistrySettings()), Layout.of(made))
    values = [
        json.dumps(document).encode() if encoding == "json" else packed(document)
        for document in documents
    ]
    times = np.full(len(values), 1_700_000_000_000)
    ids = ["phone"] * len(values)
    one = decode_with(by_structs, values, ids, times, NOW_US)
    other = decode_with(by_documents, values, ids, times, NOW_US)
    assert one.message.tolist() == other.message.tolist()
    assert one.time_us.tolist() == other.time_us.tolist()
    assert one.axes.tolist() == other.axes.tolist()
    assert one.invalid.keys() == other.invalid.keys()


def packed(document: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(document)
    except OverflowError:  # an integer of over 64 bits
        return b""
