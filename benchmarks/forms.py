"""Readings per CPU-second of other forms of messages, beside the plain forms in the same rounds."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.harness import PARTITIONS, add_results, running_broker, save, spread
from benchmarks.inputs import Fleet, Loaded, for_one_run, load
from benchmarks.systems import STEPSTREAM
from benchmarks.throughput import DEVICES, check
from stepstream.inputs import MessageWriter
from stepstream.settings import InputSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = {1: 15.0, 50: 40.0}
"""Of input, by readings in a message."""
NESTED = {
    "timestamp": "ts",
    **{f"accel_{axis}": f"acc.{axis}" for axis in "xyz"},
    **{f"gyro_{axis}": f"gyro.{axis}" for axis in "xyz"},
}
ARRAYS = {
    "timestamp": "ts",
    **{f"accel_{axis}": f"acc.{place}" for place, axis in enumerate("xyz")},
    **{f"gyro_{axis}": f"gyro.{place}" for place, axis in enumerate("xyz")},
}
SENSOR = {"path": "sensor", "accelerometer": "accelerometer", "gyroscope": "gyroscope"}
ONE_SENSOR = {f"{sensor}_{axis}": axis for sensor in ("accel", "gyro") for axis in "xyz"}


@dataclass(frozen=True)
class Form:
    """A way to write messages, the readings in one, and what is published."""

    batch: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    """What is published beside the steps."""

    @property
    def environment(self) -> dict[str, str]:
        """The settings that read it."""
        return {
            f"STEPSTREAM_INPUT__{name.upper()}": one if isinstance(one, str) else json.dumps(one)
            for name, one in self.settings.items()
        }


FORMS = {
    "plain": Form(1),
    "plain with minutes and walks": Form(1, outputs=("minutes", "walks")),
    "plain with counts": Form(1, outputs=("counts",)),
    "nested objects": Form(1, {"fields": NESTED, "time_unit": "us"}),
    "arrays of three": Form(1, {"fields": ARRAYS, "time_unit": "us"}),
    "MessagePack, nested": Form(1, {"fields": NESTED, "format": "msgpack"}),
    "CBOR, nested": Form(1, {"fields": NESTED, "format": "cbor"}),
    "one sensor a message": Form(1, {"sensor": SENSOR, "fields": ONE_SENSOR}),
    "plain, arrays of 50": Form(50),
    "arrays of 50 with minutes and walks": Form(50, outputs=("minutes", "walks")),
    "50 objects": Form(50, {"readings": "data"}),
    "50 nested objects": Form(50, {"readings": "data", "fields": NESTED, "time_unit": "us"}),
    "50 lists": Form(
        50,
        {
            "readings": "data",
            "fields": {
                name: str(place) for place, name in enumerate(("timestamp", *list(NESTED)[1:]))
            },
        },
    ),
}
PLAIN = {1: "plain", 50: "plain, arrays of 50"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    parser.add_argument("--only", default="", help="names of forms, with commas; the plain are too")
    add_results(parser)
    options = parser.parse_args()
    chosen = set(filter(None, options.only.split(","))) | set(PLAIN.values())
    forms = {name: form for name, form in FORMS.items() if name in chosen or not options.only}
    rates: dict[str, list[float]] = {name: [] for name in forms}
    with running_broker() as bootstrap:
        few = load(bootstrap, Fleet(PARTITIONS * 4, 0.1))
        start_s = median(
            STEPSTREAM.run(for_one_run(few.topics), few.messages).cpu_s for _ in range(3)
        )
        loaded = {name: _load(bootstrap, form, options.share) for name, form in forms.items()}
        for _ in range(options.rounds):
            for name, form in forms.items():
                fleet, filled = loaded[name]
                topics = for_one_run(filled.topics, form.outputs)
                run = STEPSTREAM.run(topics, filled.messages, **form.environment)
                check(fleet, filled, topics)
                # A reading of one sensor counts as one.
                readings = filled.messages if form.batch == 1 else filled.readings
                rates[name].append(readings / (run.cpu_s - start_s))
                print(f"{name:22} {rates[name][-1]:>11,.0f}/CPU-s", flush=True)
    results = {}
    for name, form in forms.items():
        plain = rates[PLAIN[form.batch]]
        ratios = [own / other for own, other in zip(rates[name], plain, strict=True)]
        results[name] = {
            "batch": form.batch,
            "per_cpu_s": spread(rates[name]),
            "ratio": spread(ratios),
        }
        print(f"{name:22} {median(rates[name]):>11,.0f}/CPU-s  {median(ratios):.2f} of plain")
    save("forms", {"input": Fleet(DEVICES, 1).origin, "forms": results}, options.results)
    return 0


def _load(bootstrap: str, form: Form, share: float) -> tuple[Fleet, Loaded]:
    fleet = Fleet(DEVICES, SECONDS[form.batch] * share)
    writer = MessageWriter(InputSettings(**form.settings), None) if form.settings else None
    return fleet, load(bootstrap, fleet, form.batch, writer=writer)


if __name__ == "__main__":
    raise SystemExit(main())
