"""Measurements for the model in docs/capacity.md: calibration, partitions, load of the broker.

``--memory`` measures only what a device adds to a consumer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import add_results, cpu_s, save
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.systems import STEPSTREAM
from stepstream.commands.capacity import Capacity, estimate
from stepstream.detection import Model, default_model_path
from stepstream.inputs import ACCELEROMETER, GYROSCOPE
from stepstream.settings import InputSettings, ModelSettings, Settings
from stepstream.simulation.calibration import BATCHES, Calibration, calibrate
from stepstream.simulation.walkers import Walker
from stepstream.streaming.processor import Processor
from tests.kafka.broker import Broker
from tests.streaming.records import NOW_US, TIME_MS, FakeRecord

if TYPE_CHECKING:
    from collections.abc import Callable

FLEET_DEVICES = 1_000
SECONDS = {1: 15.0, 50: 45.0}
PARTITIONS = (1, 4, 16, 64, 256)
DEVICES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
RATE_HZ = 80
MEMORY_DEVICES = 16_384
"""As many as the detector's arrays have room for, so that no row is counted that nobody has."""
WARM_DEVICES, WARM_S = 256, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    parser.add_argument("--memory", action="store_true")
    add_results(parser)
    options = parser.parse_args()
    if options.memory:
        for split in (False, True):
            kib = in_a_process(device_kib, split)
            print(f"a device whose sensors send {'apart' if split else 'together'}: {kib:.1f} KiB")
        return
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


def in_a_process(measured: Callable[[bool], float], split: bool) -> float:
    """Measure in a new process, whose memory nothing else has used."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measured, split).result()


def device_kib(split: bool) -> float:
    """Memory that a device adds to a consumer: windows, what the network remembers, the id."""
    settings = Settings()
    if split:
        sensor = {"path": "of", "accelerometer": "accel", "gyroscope": "gyro"}
        settings = Settings(input=InputSettings(sensor=sensor))
    processor = Processor(Model(default_model_path()), settings)
    partition = processor.add_partition("readings", 0)
    walker = Walker(1, RATE_HZ)
    seconds = [second_of(walker, second, split=split) for second in range(WARM_S)]

    def send(devices: range) -> None:
        for number, values in enumerate(seconds):
            for begin in range(devices.start, devices.stop, WARM_DEVICES):
                keys = [b"phone-%08d" % n for n in range(begin, begin + WARM_DEVICES)]
                records = [
                    FakeRecord(key, value, partition.next_offset + row, TIME_MS + number * 1000)
                    for row, (key, value) in enumerate(product(keys, values))
                ]
                processor.process({partition: records}, NOW_US)

    send(range(WARM_DEVICES))
    before = resident_bytes()
    send(range(WARM_DEVICES, MEMORY_DEVICES))
    return (resident_bytes() - before) / (MEMORY_DEVICES - WARM_DEVICES) / 1024


def second_of(walker: Walker, second: int, *, split: bool) -> list[bytes]:
    """The messages of a device in a second: one, or one of each sensor."""
    time_s, axes = walker.read(second + 1.0)
    columns: dict[str, Any] = {"timestamp": (TIME_MS / 1000 + time_s).tolist()}
    columns |= dict(zip(ACCELEROMETER + GYROSCOPE, axes.T.tolist(), strict=True))
    if not split:
        return [json.dumps(columns).encode()]
    return [
        json.dumps(
            {"of": of, **{n: v for n, v in columns.items() if n in ("timestamp", *names)}}
        ).encode()
        for of, names in (("accel", ACCELEROMETER), ("gyro", GYROSCOPE))
    ]


def resident_bytes() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def needs(batch: int, cost: Calibration) -> dict[int, dict[str, Any]]:
    """The needs of fleets of all sizes, by the model."""
    return {
        devices: vars(estimate(Capacity(devices=devices, rate=RATE_HZ, batch=batch), cost))
        for devices in DEVICES
    }


if __name__ == "__main__":
    main()
