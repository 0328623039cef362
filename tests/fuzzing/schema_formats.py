"""Formats with a schema for fuzzing, each with a valid message."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple
from uuid import UUID

import fastavro
import httpx

from stepstream.inputs import InputFormat, fetch_lacking
from stepstream.inputs.alike import Alike, AlikeReader
from stepstream.inputs.avro import Avro, parse_schema
from stepstream.inputs.columns import FIELDS
from stepstream.inputs.framing import FramedParser, frame
from stepstream.inputs.general import GeneralFormat
from stepstream.inputs.layout import Layout
from stepstream.inputs.proto_files import IndexedProtobuf, compile_files
from stepstream.inputs.protobuf import Protobuf
from stepstream.inputs.registry import Registered, Registry
from stepstream.settings import InputSettings, RegistrySettings
from tests.inputs.protobuf_types import message_type, new

SECOND = 10**9
GUID = UUID("89791762-2336-4186-9674-299b90a802e2")
TIMES = [1_700_000_000.3 + n / 80 for n in range(6)]
READINGS = InputSettings(readings="readings")
NAMES = frozenset({*FIELDS, "readings"})


class SchemaFormat(NamedTuple):
    """A format, the same without a reader of many messages at once, and a message of it."""

    made: InputFormat
    one_by_one: InputFormat
    example: bytes


def _format(parser: Any, settings: InputSettings, example: bytes) -> SchemaFormat:
    layout = Layout.of(settings)
    made = GeneralFormat(parser, layout, AlikeReader.of(parser, layout))
    fetch_lacking(made.schemas, [example, b"\0\0\0\0\x63"])
    return SchemaFormat(made, GeneralFormat(parser, layout), example)


def _avro(schema: dict[str, Any], content: dict[str, Any]) -> tuple[Avro, bytes]:
    named: dict[str, Any] = {}
    parsed = parse_schema(schema, named)
    file = io.BytesIO()
    fastavro.schemaless_writer(file, parsed, content)
    return Avro(parsed, NAMES, named=named, unit_ns=SECOND), file.getvalue()


def _record(name: str, **fields: Any) -> dict[str, Any]:
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": name, "fields": listed}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


AXES = {name: [0.25 * n for n in range(6)] for name in FIELDS[1:]}
COLUMNS = _record(
    "Columns",
    note=["null", "string"],
    timestamp=_array("double"),
    **{name: _array("float") for name in FIELDS[1:]},
)
ITEM = _record(
    "Item",
    timestamp={"type": "long", "logicalType": "timestamp-micros"},
    **{name: ["null", "float"] for name in FIELDS[1:]},
    tags={"type": "map", "values": "int"},
)
PROTO_COLUMNS = f"""
syntax = "proto3";
message Message {{
  string note = 9;
  repeated double timestamp = 1;
  {" ".join(f"repeated float {name} = {number};" for number, name in enumerate(FIELDS[1:], 2))}
}}
"""
PROTO_ITEMS = f"""
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Other {{ }}
message Message {{ repeated Item readings = 1; map<string, int32> tags = 2; }}
message Item {{
  google.protobuf.Timestamp timestamp = 1;
  {" ".join(f"double {name} = {number};" for number, name in enumerate(FIELDS[1:], 2))}
}}
"""


def _proto_items() -> Any:
    message = new(message_type(PROTO_ITEMS), tags={"a": 1})
    for n, at in enumerate(TIMES):
        item = message.readings.add(**dict.fromkeys(FIELDS[1:], 0.25 + n))
        item.timestamp.FromMicroseconds(round(at * 1e6))
    return message


def _framed(kind: str, text: str, compile_schema: Any) -> FramedParser:
    """A parser with a registry that has one schema, number 1 and with a GUID."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith(("/schemas/ids/1", f"/schemas/guids/{GUID}")):
            return httpx.Response(200, json={"schema": text, "schemaType": kind})
        return httpx.Response(404, json={"error_code": 40403})

    settings = RegistrySettings(url="http://registry")
    return FramedParser(Registry(settings, httpx.MockTransport(answer)), compile_schema)


def schema_formats() -> dict[str, list[SchemaFormat]]:
    """All of them, by their names in the settings."""
    columns, in_avro = _avro(COLUMNS, {"note": "n", "timestamp": TIMES, **AXES})
    rows = [
        {
            "timestamp": round(at * 1e6),
            **{name: AXES[name][n] for name in FIELDS[1:]},
            "tags": {},
        }
        for n, at in enumerate(TIMES)
    ]
    records, of_records = _avro(_record("Records", readings=_array(ITEM)), {"readings": rows})
    of_columns = new(message_type(PROTO_COLUMNS), note="n", timestamp=TIMES, **AXES)
    in_protobuf = of_columns.SerializeToString()
    items = _proto_items().SerializeToString()

    def indexed(registered: Registered) -> Alike:
        file = compile_files(registered.text, {})
        return IndexedProtobuf(file, NAMES, SECOND, None)

    framed_avro = _framed("AVRO", json.dumps(COLUMNS), lambda _: columns)
    framed_protobuf = _framed("PROTOBUF", PROTO_ITEMS, indexed)
    return {
        "avro": [
            _format(columns, InputSettings(), in_avro),
            _format(records, READINGS, of_records),
            _format(framed_avro, InputSettings(), frame(1) + in_avro),
            _format(framed_avro, InputSettings(), frame(GUID) + in_avro),
        ],
        "protobuf": [
            _format(Protobuf(message_type(PROTO_COLUMNS), NAMES), InputSettings(), in_protobuf),
            _format(Protobuf(message_type(PROTO_ITEMS), NAMES), READINGS, items),
            _format(framed_protobuf, READINGS, frame(1) + b"\x02\x02" + items),
        ],
    }
