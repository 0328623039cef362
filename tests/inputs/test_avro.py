"""Messages in Avro, compared with fastavro."""

from __future__ import annotations

import io
from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.inputs.avro import Avro, parse_schema
from stepstream.inputs.schemas import SchemaError
from tests.inputs.avro_values import FIELDS, encode, long, plain, schemas, values

UNIT_S = 10**9


def record(**fields: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Message",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
    }


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def reader(schema: Any, *names: str, unit_ns: int | None = None, **options: Any) -> Avro:
    named: dict[str, Any] = {}
    parsed = parse_schema(schema, named)
    return Avro(parsed, names or FIELDS, named=named, unit_ns=unit_ns, **options)


def write(schema: Any, content: Any) -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), content)
    return file.getvalue()


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_message_is_read_as_fastavro_reads_it(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    wanted = frozenset(data.draw(st.sets(st.sampled_from(FIELDS), min_size=1)))
    parser = reader(schema, *wanted)
    for _ in range(2):  # the second time, layouts are known
        content = data.draw(values(schema))
        encoded = encode(schema, content, data.draw(st.randoms()))
        expected = fastavro.schemaless_reader(io.BytesIO(encoded), fastavro.parse_schema(schema))
        assert plain(parser.parse(encoded), wanted) == plain(expected, wanted)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_damaged_messages_are_refused_or_read(data: st.DataObject) -> None:
    schema = data.draw(schemas())
    damaged = bytearray(encode(schema, data.draw(values(schema)), data.draw(st.randoms())))
    for _ in range(data.draw(st.integers(1, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for poison in (bytes(damaged), cut):
        # Any other exception fails the test.
        with suppress(InvalidMessage):
            assert isinstance(reader(schema).parse(poison), dict)


def test_numbers_and_records_become_arrays() -> None:
    inner = {**record(x="double", y="float"), "name": "Inner"}
    item = {**record(t="long", a=inner, b=["null", "float"]), "name": "Item"}
    schema = record(a=array("double"), b=array("long"), c=array(item))
    items = [{"t": 300 + n, "a": {"x": n / 4, "y": 0.5}, "b": 1.5} for n in range(5)]
    message = write(schema, {"a": [1.0, 2.0], "b": [1, 300, -7], "c": items})
    document = reader(schema, "a", "b", "c", "t", "x", "y").parse(message)
    assert document["a"].dtype == np.float64
    assert document["b"].tolist() == [1, 300, -7]
    assert document["c"]["t"].tolist() == [300, 301, 302, 303, 304]
    assert document["c"]["a"]["x"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert document["c"]["b"].tolist() == [1.5] * 5


def test_three_numbers_in_each_record_become_a_table() -> None:
    schema = record(a=array({**record(b=array("float"), c="boolean"), "name": "Item"}))
    items = [{"b": [n, n + 1.0, n + 2.0], "c": True} for n in range(4)]
    document = reader(schema).parse(write(schema, {"a": items}))
    assert document["a"]["b"].tolist() == [item["b"] for item in items]


def test_records_of_different_sizes_become_objects() -> None:
    schema = record(a=array({**record(b=["null", "float"], c="long"), "name": "Item"}))
    items = [{"b": None, "c": 1}, {"b": 0.5, "c": 1 << 40}]
    assert reader(schema).parse(write(schema, {"a": items})) == {"a": items}


def test_blocks_of_different_layouts_become_objects() -> None:
    schema = record(a=array({**record(b=["null", "float"], c="double"), "name": "Item"}))
    without, with_b = long(0) + bytes(8), long(1) + bytes(4) + bytes(8)
    message = (long(2) + without * 2) + (long(3) + with_b * 3) + b"\0"
    expected = [{"b": None, "c": 0.0}] * 2 + [{"b": 0.0, "c": 0.0}] * 3
    assert reader(schema).parse(message) == {"a": expected}


@pytest.mark.parametrize(
    ("unit", "ticks"), [("millis", 10**3), ("micros", 10**6), ("nanos", 10**9)]
)
def test_times_have_the_wanted_unit(unit: str, ticks: int) -> None:
    kind = {"type": "long", "logicalType": f"timestamp-{unit}"}
    schema = record(a=kind, b=array(kind), c=array({**record(d=kind), "name": "Item"}))
    time = 1_700_000_000 * ticks + ticks // 4
    # fastavro writes numbers in place of times.
    plain_schema = record(a="long", b=array("long"), c=array({**record(d="long"), "name": "I"}))
    message = write(plain_schema, {"a": time, "b": [time], "c": [{"d": time}, {"d": time}]})
    seconds = reader(schema, unit_ns=UNIT_S).parse(message)
    for in_s in (seconds["a"], seconds["b"][0], seconds["c"]["d"][1]):
        # Nanoseconds since the epoch are not all float64; half a microsecond is what counts.
        assert in_s == pytest.approx(1_700_000_000.25, abs=5e-7)
    nanoseconds = reader(schema, unit_ns=1).parse(message)
    for in_ns in (nanoseconds["a"], nanoseconds["b"][0], nanoseconds["c"]["d"][1]):
        assert in_ns == pytest.approx(1_700_000_000_250_000_000, abs=500)
    assert reader(schema).parse(message)["a"] == time


def test_other_logical_types() -> None:
    fixed = {"type": "fixed", "size": 16, "name": "Id", "logicalType": "uuid"}
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}
    schema = record(a=fixed, b=decimal, c={"type": "string", "logicalType": "uuid"})
    uuid = UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    message = write(schema, {"a": uuid.bytes, "b": Decimal("-9.81"), "c": uuid})
    assert reader(schema).parse(message) == {"a": str(uuid), "b": -9.81, "c": str(uuid)}


def test_names_of_a_readers_schema() -> None:
    written = record(x="double", old=array("float"))
    expected = {
        "type": "record",
        "name": "Message",
        "fields": [
            {"name": "a", "type": "double", "aliases": ["x"]},
            {"name": "b", "type": array("float"), "aliases": ["old"]},
            {"name": "c", "type": "double", "default": 0.5},
        ],
    }
    parser = reader(written, reader=parse_schema(expected))
    document = parser.parse(write(written, {"x": 1.5, "old": [2.5]}))
    assert document["a"] == 1.5
    assert document["b"].tolist() == [2.5]
    assert document["c"] == 0.5


@pytest.mark.parametrize(
    ("schema", "message", "code"),
    [
        (record(a="double"), b"", ErrorCode.INVALID_ENCODING),
        (record(a="double"), bytes(9), ErrorCode.INVALID_ENCODING),
        (record(a="string"), long(-1), ErrorCode.INVALID_ENCODING),
        (record(a="string"), long(1 << 60), ErrorCode.INVALID_ENCODING),
        (record(a="string"), long(1) + b"\xff", ErrorCode.INVALID_ENCODING),
        (record(a="long"), b"\xff" * 11, ErrorCode.INVALID_ENCODING),
        (record(a=["null", "long"]), long(2), ErrorCode.INVALID_ENCODING),
        (record(a=["null", "long"]), long(-1), ErrorCode.INVALID_ENCODING),
        (record(a=array("null")), long(1 << 60), ErrorCode.INVALID_ENCODING),
        (record(x=array("null")), long(1 << 60), ErrorCode.INVALID_ENCODING),
        (record(a=array("double")), long(1 << 60), ErrorCode.INVALID_ENCODING),
        (record(a=array("double")), long(-(1 << 60)), ErrorCode.INVALID_ENCODING),
        (record(a=array("double")), long(-1) + long(-9) + bytes(20), ErrorCode.INVALID_ENCODING),
        (record(a=array("long")), long(10_001) + bytes(10_002), ErrorCode.TOO_MANY_READINGS),
        (
            record(a=array("boolean")),
            (long(60) + bytes(60)) * 200 + b"\0",
            ErrorCode.TOO_MANY_READINGS,
        ),
        (
            record(a=array(array(array("null")))),
            (long(9_000) + b"\0" * 9_000) * 10 + b"\0",
            ErrorCode.TOO_MANY_READINGS,
        ),
    ],
)  # fmt: skip
def test_poison_is_refused(schema: Any, message: bytes, code: ErrorCode) -> None:
    with pytest.raises(InvalidMessage) as caught:
        reader(schema).parse(message)
    assert caught.value.code == code


def test_a_list_that_contains_itself_ends() -> None:
    schema = record(a="double", b=["null", "Message"])
    assert reader(schema).parse(bytes(8) + long(1) + bytes(9)) == {
        "a": 0.0,
        "b": {"a": 0.0, "b": None},
    }
    with pytest.raises(InvalidMessage):
        reader(schema).parse((bytes(8) + long(1)) * 50_000)


@pytest.mark.parametrize(
    "schema",
    [{"type": "record"}, {"type": "nonsense"}, 7, None, {}, record(a="Unknown"), "x"],
)
def test_what_is_no_schema(schema: Any) -> None:
    with pytest.raises(SchemaError):
        reader(schema)
