"""Readings per CPU-second in Avro and Protobuf, beside plain JSON; batches of 50."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.harness import PARTITIONS, add_results, running_broker, save, spread
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.systems import STEPSTREAM
from benchmarks.throughput import DEVICES, check
from stepstream.inputs import MessageWriter
from stepstream.settings import InputSettings
from tests.inputs.protobuf_types import compile_set

BATCH = 50
SECONDS = 37.5
AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
PROTOBUF = f"""
syntax = "proto3";
message Message {{
  repeated double timestamp = 1;
  {" ".join(f"repeated float {axis} = {number};" for number, axis in enumerate(AXES, 2))}
}}
"""


class Form(NamedTuple):
    """A form of messages: its name in the table, settings of the input, and the schema's file."""

    name: str
    settings: dict[str, str]
    schema: bytes = b""


def _record(name: str, **fields: Any) -> dict[str, Any]:
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": name, "fields": listed}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def forms() -> list[Form]:
    """All of them; plain JSON is the first."""
    floats = {axis: _array("float") for axis in AXES}
    columns = _record("Columns", timestamp=_array("double"), **floats)
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    item = _record("Item", timestamp=micros, **dict.fromkeys(AXES, "float"))
    records = _record("Records", samples=_array(item))
    return [
        Form("plain JSON", {}),
        Form("Avro, arrays", {"format": "avro"}, json.dumps(columns).encode()),
        Form(
            "Avro, records with times in microseconds",
            {"format": "avro", "readings": "samples"},
            json.dumps(records).encode(),
        ),
        Form(
            "Protobuf, packed",
            {"format": "protobuf", "message_type": "Message"},
            compile_set(PROTOBUF),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    add_results(parser)
    options = parser.parse_args()
    fleet, few = Fleet(DEVICES, SECONDS * options.share), Fleet(PARTITIONS * 4, 1.0)
    rates: dict[str, list[float]] = {}
    with running_broker() as bootstrap, tempfile.TemporaryDirectory() as folder:
        kinds = []
        for number, form in enumerate(forms()):
            given, writer = dict(form.settings), None
            if form.schema:
                file = Path(folder) / f"schema-{number}"
                file.write_bytes(form.schema)
                given["schema"] = str(file)
                writer = MessageWriter(InputSettings.model_validate(given), None)
            settings = {f"STEPSTREAM_INPUT__{name.upper()}": value for name, value in given.items()}
            start = load(bootstrap, few, BATCH, writer=writer)
            begin_s = STEPSTREAM.run(for_one_run(start.topics), start.messages, **settings).cpu_s
            loaded = load(bootstrap, fleet, BATCH, writer=writer)
            kinds.append((form, settings, begin_s, loaded))
        for _ in range(options.rounds):
            for form, settings, begin_s, loaded in kinds:
                topics = for_one_run(loaded.topics)
                run = STEPSTREAM.run(topics, loaded.messages, **settings)
                check(fleet, loaded, topics)
                rate = loaded.readings / (run.cpu_s - begin_s)
                rates.setdefault(form.name, []).append(rate)
                print(f"{form.name:<42}{rate:>12,.0f} readings/CPU-s", flush=True)
    plain = rates["plain JSON"]
    ratios = {
        name: [one / other for one, other in zip(these, plain, strict=True)]
        for name, these in rates.items()
    }
    for name, these in ratios.items():
        print(f"{name}: {median(these):.2f} of plain JSON")
    table = {
        name: {"per_cpu_s": spread(these), "ratio": spread(ratios[name])}
        for name, these in rates.items()
    }
    save("binary_forms", {"input": fleet.origin, "batch": BATCH, "table": table}, options.results)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
