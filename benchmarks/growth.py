"""Measurements for the model in docs/capacity.md: calibration, partitions, load of the broker."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.harness import add_results, cpu_s, save
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.systems import STEPSTREAM
from stepstream.commands.capacity import Capacity, estimate
from stepstream.settings import ModelSettings
from stepstream.simulation.calibration import BATCHES, Calibration, calibrate
from tests.kafka.broker import Broker

FLEET_DEVICES = 1_000
SECONDS = {1: 15.0, 50: 45.0}
PARTITIONS = (1, 4, 16, 64, 256)
DEVICES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
RATE_HZ = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    add_results(parser)
    options = parser.parse_args()
    cost = calibrate(ModelSettings())
    print(f"calibrated: {cost}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            real = {batch: measure(broker, batch, 4, options.share) for batch in BATCHES}
            spread_out = {count: measure(broker, 1, count, options.share) for count in PARTITIONS}
        finally:
            broker.kill()
    results = {
        "calibrated_us": {batch: cost.cost_us(batch) for batch in BATCHES},
        "calibration": vars(cost),
        "real": real,
        "partitions": spread_out,
        "needs": {batch: needs(batch, cost) for batch in BATCHES},
    }
    save("growth", {"input": Fleet(1, 1.0).origin, **results}, options.results)


def measure(broker: Broker, batch: int, partitions: int, share: float) -> dict[str, float]:
    """Cost of a reading for a consumer, and of the same readings for the broker."""
    few = load(broker.bootstrap, Fleet(25, 0.1), 1, partitions)
    start_up = STEPSTREAM.run(for_one_run(few.topics), few.messages)
    begin_s = cpu_s(broker.pid)
    loaded = load(broker.bootstrap, Fleet(FLEET_DEVICES, SECONDS[batch] * share), batch, partitions)
    written_s = cpu_s(broker.pid)
    run = STEPSTREAM.run(for_one_run(loaded.topics), loaded.messages)
    read_s = cpu_s(broker.pid)
    loaded.topics.delete()
    result = {
        "us_a_reading": (run.cpu_s - start_up.cpu_s) / loaded.readings * 1e6,
        "broker_write_us": (written_s - begin_s) / loaded.readings * 1e6,
        "broker_read_us": (read_s - written_s) / loaded.readings * 1e6,
        "resident_mib": run.resident_mib,
    }
    shown = ", ".join(f"{name} {value:.2f}" for name, value in result.items())
    print(f"{batch} a message, {partitions} partitions: {shown}", flush=True)
    return result


def needs(batch: int, cost: Calibration) -> dict[int, dict[str, Any]]:
    """The needs of fleets of all sizes, by the model."""
    return {
        devices: vars(estimate(Capacity(devices=devices, rate=RATE_HZ, batch=batch), cost))
        for devices in DEVICES
    }


if __name__ == "__main__":
    main()
