"""Readings per CPU-second in Avro and Protobuf, beside plain JSON; batches of 50."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import fastavro

from benchmarks.harness import PARTITIONS, add_results, running_broker, save, spread
from benchmarks.inputs import Filler, Fleet, Loaded, for_one_run
from benchmarks.systems import STEPSTREAM
from benchmarks.throughput import DEVICES, check
from tests.inputs.protobuf_types import compile_set, message_type, new
from tests.kafka.builders import TopicSet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BATCH = 50
SECONDS = 37.5
AXES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
NAMES = ("timestamp", *AXES)
PROTOBUF = f"""
syntax = "proto3";
message Message {{
  repeated double timestamp = 1;
  {" ".join(f"repeated float {axis} = {number};" for number, axis in enumerate(AXES, 2))}
}}
"""


@dataclass(frozen=True)
class Form:
    """A form of messages.

    Attributes
    ----------
    name
        In the table.
    encode
        Makes a message of the plain JSON's content; None leaves it as it is.
    settings
        Environment of the consumer.
    schema
        What is in the file that ``STEPSTREAM_INPUT__SCHEMA`` names.
    """

    name: str
    encode: Callable[[dict[str, Any]], bytes] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    schema: bytes = b""


def _record(name: str, **fields: Any) -> dict[str, Any]:
    listed = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": name, "fields": listed}


def _array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _avro(name: str, schema: dict[str, Any], change: Callable[[Any], Any], **more: str) -> Form:
    text = json.dumps(schema).encode()
    parsed = fastavro.parse_schema(schema)

    def encode(content: dict[str, Any]) -> bytes:
        file = io.BytesIO()
        fastavro.schemaless_writer(file, parsed, change(content))
        return file.getvalue()

    return Form(name, encode, {"STEPSTREAM_INPUT__FORMAT": "avro", **more}, text)


def forms() -> list[Form]:
    """All of them; plain JSON is the first."""
    floats = {axis: _array("float") for axis in AXES}
    columns = _record("Columns", timestamp=_array("double"), **floats)
    micros = {"type": "long", "logicalType": "timestamp-micros"}
    item = _record("Item", timestamp=micros, **dict.fromkeys(AXES, "float"))
    descriptor = message_type(PROTOBUF)

    def as_items(content: dict[str, Any]) -> dict[str, Any]:
        rows = zip(*(content[name] for name in NAMES), strict=True)
        return {
            "samples": [
                {"timestamp": round(at * 1e6), **dict(zip(AXES, axes, strict=True))}
                for at, *axes in rows
            ]
        }

    return [
        Form("plain JSON"),
        _avro("Avro, arrays", columns, dict),
        _avro(
            "Avro, records with times in microseconds",
            _record("Records", samples=_array(item)),
            as_items,
            STEPSTREAM_INPUT__READINGS="samples",
        ),
        Form(
            "Protobuf, packed",
            lambda content: new(
                descriptor, **{name: content[name] for name in NAMES}
            ).SerializeToString(),
            {
                "STEPSTREAM_INPUT__FORMAT": "protobuf",
                "STEPSTREAM_INPUT__MESSAGE_TYPE": "Message",
            },
            compile_set(PROTOBUF),
        ),
    ]


def load(bootstrap: str, fleet: Fleet, form: Form) -> Loaded:
    """Fill a topic with messages of a form."""
    topics = TopicSet.create(bootstrap, PARTITIONS)
    epoch_s = int(time.time() - fleet.seconds) - 60
    known: dict[bytes, bytes] = {}
    with Filler(topics) as filler:
        for _, number, key, value in fleet.messages(epoch_s, BATCH):
            if form.encode is None:
                filler.add(number, key, value)
                continue
            # Devices that share a signal differ in their names only.
            content = value.partition(b'"timestamp"')[2]
            encoded = known.get(content)
            if encoded is None:
                encoded = known[content] = form.encode(json.loads(value))
            if len(known) > fleet.devices:
                known.clear()
            filler.add(number, key, encoded)
    filler.check()
    return Loaded(topics, filler.count, fleet.readings, epoch_s)


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
            settings = dict(form.settings)
            if form.schema:
                file = Path(folder) / f"schema-{number}"
                file.write_bytes(form.schema)
                settings["STEPSTREAM_INPUT__SCHEMA"] = str(file)
            start = load(bootstrap, few, form)
            begin_s = STEPSTREAM.run(for_one_run(start.topics), start.messages, **settings).cpu_s
            kinds.append((form, settings, begin_s, load(bootstrap, fleet, form)))
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
