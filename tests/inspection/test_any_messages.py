"""Whatever messages contain, they are described, and what is advised can be set."""

from __future__ import annotations

import json
from typing import Any

import cbor2
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from stepstream.inspection import Excerpt, FoundMessage, Inspector, describe
from stepstream.settings import InputSettings, RegistrySettings

NOW_US = 1_800_000_000_000_000
NAMES = (
    "acc", "accelerometer", "gyro", "x", "y", "z", "ax", "ay", "az",
    "accel_x", "accel_y", "accel_z", "ts", "time", "timestamp", "t0", "rate", "dt",
    "deviceId", "id", "name", "data", "values", "n", "v", "bn", "a.b", "",
)  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.integers(1_600_000_000, 1_900_000_000).flatmap(
        lambda at: st.sampled_from([at, at * 1000, at * 10**9])
    ),
    st.floats(),
    st.sampled_from(
        ["accelerometer", "gyroscope", "17", "1e400", "nan", "2026-11-26T12:00:00Z", ""]
    ),
    st.text(max_size=5),
)
vectors = st.sampled_from([[1, 2, 3], [0.1, 9.7, 0.3], [], [1], 5, "text", ["1", "2", "3"], None])
readings = st.dictionaries(
    st.sampled_from(NAMES),
    st.one_of(vectors, scalars, st.dictionaries(st.sampled_from("xyz"), vectors)),
    max_size=5,
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=7),
        st.lists(st.floats(-1e5, 1e5), min_size=3, max_size=7),
        readings,
        st.lists(readings, min_size=1, max_size=4),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=9),
    ),
    max_leaves=30,
)


def encode_msgpack(document: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(document)
    except OverflowError:
        return b"\xc1"


values = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    documents.map(encode_msgpack),
    documents.map(cbor2.dumps),
    st.binary(max_size=40),
    st.binary(max_size=20).map(lambda rest: b"\0\0\0\0\x01" + rest),
    st.none(),
)


@given(
    st.lists(st.tuples(st.none() | st.binary(max_size=17), values), min_size=1, max_size=4),
    st.sampled_from(
        [
            {},
            {"time_unit": "record"},
            {"readings": "data", "fields": {"accel_x": "acc.x"}},
            {"device_id": "id", "numeric_strings": True},
        ]
    ),
)
def test_any_messages_are_described_and_advice_is_valid(
    messages: list[tuple[bytes | None, bytes | None]], given_settings: dict[str, Any]
) -> None:
    settings = InputSettings(**given_settings)
    excerpt = Excerpt("sent", [FoundMessage(value, key, record_ms=1) for key, value in messages])
    made = Inspector(settings, RegistrySettings(), excerpt, NOW_US, 60_000_000)
    understood = made.understand(settings)
    assert describe(excerpt, settings, understood)
    if understood.is_right:
        made.advise_finer_ids(understood)
        return
    advice = made.advise(understood)
    advice.lines(settings)
    if advice.settings is not None:
        assert advice.understood is not None
        assert advice.understood.faults < understood.faults
