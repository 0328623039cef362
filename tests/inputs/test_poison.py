"""Messages that can't be used, in every format: the same code, and the path that is wrong."""

from __future__ import annotations

import io
import json
import math
import tracemalloc
from typing import TYPE_CHECKING, Any

import cbor2
import fastavro
import httpx
import msgspec
import numpy as np
import pytest

from stepstream.inputs import ErrorCode, Messages, fetch_lacking, make_format
from stepstream.inputs.framing import FramedParser, frame
from stepstream.inputs.registry import Registry
from stepstream.settings import InputSettings, RegistrySettings
from tests.inputs.forms import NESTED
from tests.inputs.protobuf_types import compile_set, message_type, new

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stepstream.inputs import Decoded, InputFormat

NOW_S = 1_700_000_000.0
FIELDS = {name: path for name, path in NESTED.items() if "gyro" not in name}
GOOD: dict[str, Any] = {"ts": NOW_S, "acc": {"x": 0.5, "y": 9.75, "z": 0.25}}
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "ts", "type": ["null", "double", "string"]},
        {
            "name": "acc",
            "type": {
                "type": "record",
                "name": "Vector",
                "fields": [{"name": axis, "type": ["null", "double", "string"]} for axis in "xyz"],
            },
        },
    ],
}
PROTOBUF = """
syntax = "proto3";
message Reading {
  message Vector {
    oneof one { double x = 1; string text = 4; }
    optional double y = 2;
    optional double z = 3;
  }
  message Wrong { string x = 1; optional double y = 2; optional double z = 3; }
  optional double ts = 1;
  Vector acc = 2;
}
message Text {
  optional double ts = 1;
  Reading.Wrong acc = 2;
}
message TextTime {
  optional string ts = 1;
  Reading.Vector acc = 2;
}
"""


def in_avro(document: Any) -> bytes:
    content = io.BytesIO()
    fastavro.schemaless_writer(content, fastavro.parse_schema(AVRO), document)
    return content.getvalue()


def in_protobuf(document: Any) -> bytes:
    name = "Text" if isinstance(document["acc"].get("x"), str) else "Reading"
    name = "TextTime" if isinstance(document.get("ts"), str) else name
    encoded: bytes = new(message_type(PROTOBUF, name), **document).SerializeToString()
    return encoded


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    "json": lambda document: json.dumps(document).encode(),
    "json-schema": lambda document: frame(1) + json.dumps(document).encode(),
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
    "avro": in_avro,
    "protobuf": in_protobuf,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The schemas' files."""
    folder = tmp_path_factory.mktemp("schemas")
    avro, protobuf = folder / "reading.avsc", folder / "reading.desc"
    avro.write_text(json.dumps(AVRO))
    protobuf.write_bytes(compile_set(PROTOBUF))
    return {"avro": avro, "protobuf": protobuf}


def decode(name: str, files: dict[str, Path], values: list[bytes], kind: str = "") -> Decoded:
    more = {"message_type": kind or "Reading"} if name == "protobuf" else {}
    given = {"fields": FIELDS, "format": name, "schema": files.get(name), **more}
    return decode_by(make_format(InputSettings.model_validate(given)), values)


def decode_by(made: InputFormat, values: list[bytes]) -> Decoded:
    count = len(values)
    opened = made.open([b"phone"] * count, values, lambda _: [])
    latest_us = int(NOW_S * 1e6) + 60_000_000
    decoded = made.decode(
        Messages(opened.values, ["phone"] * count, np.zeros(count, np.int64), latest_us)
    )
    return decoded._replace(invalid={**opened.invalid, **decoded.invalid})


def changed(**changes: Any) -> dict[str, Any]:
    """A reading with other values in it; None leaves them out."""
    document = {**GOOD, **changes}
    acc = {axis: value for axis, value in document["acc"].items() if value is not None}
    return {**document, "acc": acc}


def with_x(value: Any) -> dict[str, Any]:
    return changed(acc={**GOOD["acc"], "x": value})


CASES: dict[str, tuple[dict[str, Any], ErrorCode, str]] = {
    "an axis is missing": (with_x(None), ErrorCode.MISSING_FIELD, "acc.x is missing"),
    "the time is missing": (changed(ts=None), ErrorCode.MISSING_TIMESTAMP, "ts"),
    "NaN": (with_x(math.nan), ErrorCode.NOT_FINITE, "acc.x is nan"),
    "infinite": (with_x(-math.inf), ErrorCode.NOT_FINITE, "acc.x is -inf"),
    "too strong": (with_x(1e6), ErrorCode.OUT_OF_RANGE, "acc.x is "),
    "text": (with_x("one"), ErrorCode.WRONG_TYPE, "acc.x: expected a number, got text 'one'"),
    "a time as text": (changed(ts="12:00"), ErrorCode.WRONG_TYPE, "ts: expected a number, got "),
    "a time that is no number": (changed(ts=math.nan), ErrorCode.NOT_FINITE, "ts is nan"),
    "a time before the epoch": (changed(ts=-1.0), ErrorCode.OUT_OF_RANGE, "ts"),
    "the future": (changed(ts=NOW_S + 3600), ErrorCode.TIME_IN_FUTURE, "ts"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ENCODERS)
def test_it_has_the_code_and_names_the_path(name: str, case: str, files: dict[str, Path]) -> None:
    document, code, said = CASES[case]
    kind = "TextTime" if case == "a time as text" else "Text" if case == "text" else ""
    encode = ENCODERS[name]
    good = [encode(GOOD)] * 4
    # Among good ones, of which some are read together; a wrong type has its own in Protobuf.
    others = [] if kind and name == "protobuf" else good
    decoded = decode(name, files, [*others, encode(document), *others], kind)
    (error,) = decoded.invalid.values()
    assert error.code == code
    assert said in error.detail
    assert len(decoded.message) == 2 * len(others)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_message_that_is_cut_short_is_refused(name: str, files: dict[str, Path]) -> None:
    value = ENCODERS[name](GOOD)
    cut = [value[:size] for size in range(len(value))]
    if name == "protobuf":
        # Of a message, the first fields are a message; the last one here is `acc`.
        cut = cut[10:]
    decoded = decode(name, files, cut)
    wrong = ErrorCode.INVALID_JSON if "json" in name else ErrorCode.INVALID_ENCODING
    assert {error.code for error in decoded.invalid.values()} == {wrong}
    assert len(decoded.invalid) == len(cut)


@pytest.mark.parametrize("more", [b"\0", b"\xff", b"}"])
@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_behind_a_message_is_refused(
    name: str, more: bytes, files: dict[str, Path]
) -> None:
    decoded = decode(name, files, [ENCODERS[name](GOOD) + more])
    wrong = ErrorCode.INVALID_JSON if "json" in name else ErrorCode.INVALID_ENCODING
    assert decoded.invalid[0].code == wrong


NESTED_DEEPLY = {"json": b"[", "json-schema": b"[", "msgpack": b"\x91", "cbor": b"\x81"}
HUGE = {
    "msgpack": [b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"],
    "cbor": [b"\x9b\0\0\0\0", b"\xbb\0\0\0\0", b"\x5b\0\0\0\0", b"\x7b\0\0\0\0", b"\xd8\x56\x5a"],
}


@pytest.mark.parametrize("name", NESTED_DEEPLY)
def test_deep_nesting_is_refused(name: str, files: dict[str, Path]) -> None:
    for where in (b"", ENCODERS[name](GOOD)[:-1]):
        decoded = decode(name, files, [where + NESTED_DEEPLY[name] * 500_000])
        wrong = ErrorCode.INVALID_JSON if "json" in name else ErrorCode.INVALID_ENCODING
        assert decoded.invalid[0].code == wrong


@pytest.mark.parametrize("name", HUGE)
def test_lengths_that_are_not_there_take_no_memory(name: str, files: dict[str, Path]) -> None:
    values = [head + b"\x7f\xff\xff\xff" for head in HUGE[name]]
    tracemalloc.start()
    try:
        decoded = decode(name, files, values)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert {error.code for error in decoded.invalid.values()} == {ErrorCode.INVALID_ENCODING}
    assert len(decoded.invalid) == len(values)
    assert peak_bytes < 64 << 20


@pytest.mark.parametrize("name", ["avro", "protobuf"])
def test_heads_that_name_no_usable_schema(name: str) -> None:
    broken = {"schema": "{", "schemaType": name.upper()}
    other = {"schema": '"double"' if name == "protobuf" else PROTOBUF}
    known = {"1": broken, "2": {**other, "schemaType": "PROTOBUF" if name == "avro" else "AVRO"}}

    def answer(request: httpx.Request) -> httpx.Response:
        number = request.url.path.rsplit("/", 1)[1]
        if number in known:
            return httpx.Response(200, json=known[number])
        return httpx.Response(404, json={"error_code": 40403})

    made = make_format(
        InputSettings(format=name, fields=FIELDS), RegistrySettings(url="http://registry")
    )
    schemas = made.schemas
    assert isinstance(schemas, FramedParser)
    schemas._registry.close()
    schemas._registry = Registry(
        RegistrySettings(url="http://registry"), httpx.MockTransport(answer)
    )
    body = ENCODERS[name](GOOD)
    said = {
        frame(1) + body: (ErrorCode.UNKNOWN_SCHEMA, "schema 1: "),
        frame(2) + body: (ErrorCode.UNKNOWN_SCHEMA, "schema 2: it is of the type"),
        frame(3) + body: (ErrorCode.UNKNOWN_SCHEMA, "schema 3: the registry doesn't know it"),
        b"\0\xff\xff\xff\xff" + body: (ErrorCode.UNKNOWN_SCHEMA, "at most 31 bits"),
        b"\x02" + frame(1)[1:] + body: (ErrorCode.INVALID_ENCODING, "the first byte is 2"),
        b"\0\0\0": (ErrorCode.INVALID_ENCODING, "3 bytes, too few"),
        b"": (ErrorCode.INVALID_ENCODING, "0 bytes, too few"),
    }
    values = list(said)
    fetch_lacking(schemas, values)
    decoded = decode_by(made, values)
    for row, (code, text) in enumerate(said.values()):
        assert decoded.invalid[row].code == code
        assert text in decoded.invalid[row].detail
