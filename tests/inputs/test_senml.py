from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stepstream.inputs.errors import InvalidMessage
from stepstream.inputs.parsers import JsonParser
from stepstream.inputs.senml import SenmlParser, encode_pack

EPOCH_S = 1_700_000_000.0
PARSER = SenmlParser(JsonParser())


def parse(records: Any) -> Any:
    return PARSER.parse(json.dumps(records).encode())


def test_values_of_one_time_are_one_object() -> None:
    assert parse(
        [
            {"bn": "dev:1:", "bt": EPOCH_S, "n": "x", "v": 1},
            {"n": "y", "v": 2},
            {"n": "x", "t": 0.5, "v": 3},
            {"n": "y", "t": 0.5, "v": 4},
        ]
    ) == [
        {"bn": "dev:1:", "t": EPOCH_S, "x": 1, "y": 2},
        {"bn": "dev:1:", "t": EPOCH_S + 0.5, "x": 3, "y": 4},
    ]


def test_base_fields_hold_until_the_next() -> None:
    assert parse(
        [
            {"bn": "a", "bt": EPOCH_S, "bv": 10},
            {"n": "x", "v": 1},
            {"bn": "b", "n": "x", "v": 2},
            {"bt": EPOCH_S + 1, "bv": 0, "n": "x", "v": 3},
        ]
    ) == [
        {"bn": "a", "t": EPOCH_S, "x": 11},
        {"bn": "b", "t": EPOCH_S, "x": 12},
        {"bn": "b", "t": EPOCH_S + 1, "x": 3},
    ]


def test_times_that_count_from_the_receivers_clock_are_no_times() -> None:
    assert parse([{"n": "x", "v": 1}, {"n": "x", "t": -5, "v": 2}]) == [
        {"bn": "", "x": 1},
        {"bn": "", "x": 2},
    ]


def test_records_without_a_number_are_ignored() -> None:
    assert parse([{"n": "label", "vs": "text"}, {"n": "on", "vb": True}]) == []


@pytest.mark.parametrize(
    ("records", "detail"),
    [
        ({"n": "x", "v": 1}, "expected a list"),
        ([1], "expected objects"),
        ([{"bn": 1}], "bn: expected text"),
        ([{"bt": "now"}], "bt: expected a number"),
        ([{"n": "x", "v": True}], "v: expected a number"),
        ([{"n": "x", "t": None, "v": 1}], "t: expected a number"),
    ],
)
def test_what_is_no_pack_is_invalid(records: Any, detail: str) -> None:
    with pytest.raises(InvalidMessage, match=detail) as caught:
        parse(records)
    assert caught.value.code == "wrong-type"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["bn", "bt", "bv", "n", "t", "v", "vs"]), inner, max_size=7
        )
    ),
    max_leaves=30,
)


@given(st.one_of(anything, st.lists(anything, max_size=4)))
@example([{"n": "x", "v": float("nan")}, {"n": "x", "v": 10**400}])
def test_any_json_is_a_list_of_objects_or_invalid(records: Any) -> None:
    try:
        found = parse(records)
    except InvalidMessage:
        return
    assert all(isinstance(item, dict) for item in found)


numbers = st.floats(-400, 400)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=20))
def test_what_is_written_is_read(rows: list[tuple[float, float]]) -> None:
    times = [EPOCH_S + row / 64 for row in range(len(rows))]
    columns = {"x": [x for x, _ in rows], "y": [y for _, y in rows]}
    assert PARSER.parse(encode_pack({"bn": "dev", "t": times, **columns})) == [
        {"bn": "dev", "t": at, "x": x, "y": y} for at, (x, y) in zip(times, rows, strict=True)
    ]
