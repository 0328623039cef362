"""Readings per CPU-second, compared with a bare loop; for several batch sizes and rates."""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

from benchmarks.harness import PARTITIONS, RATE_HZ, add_results, running_broker, save, spread
from benchmarks.inputs import Fleet, Loaded, for_one_run, load
from benchmarks.systems import BARE, STEPSTREAM, System

DEVICES = 1_000
SYSTEMS = (BARE, STEPSTREAM)
LENGTHS_S = {1: 37.5, 50: 75.0}
"""Seconds of input by readings in a message: enough for a stable figure."""
BATCHES = (1, 2, 5, 10, 20, 50, 100, 200)
RATES_HZ = (20, 50, 80, 200, 400)
READINGS = 1_500_000
"""Readings for each point of the curves."""
LEAST_RATIO = 0.50
"""`--quick` fails below this share of the bare loop."""
QUICK_S = 12.0
QUICK_ROUNDS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="single readings only; 1 if too slow")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    add_results(parser)
    options = parser.parse_args()
    if options.quick:
        with running_broker() as bootstrap:
            row = compare(bootstrap, Fleet(DEVICES, QUICK_S * options.share), 1, QUICK_ROUNDS)
        ratio = row["ratio"]["median"]
        print(f"single readings, stepstream to bare loop: {ratio:.2f} (at least {LEAST_RATIO:.2f})")
        return 0 if ratio >= LEAST_RATIO else 1
    with running_broker() as bootstrap:
        table = {
            batch: compare(
                bootstrap, Fleet(DEVICES, seconds * options.share), batch, options.rounds
            )
            for batch, seconds in LENGTHS_S.items()
        }
        batches = {}
        for batch in BATCHES:
            seconds = READINGS / DEVICES / RATE_HZ * (2 if batch >= 10 else 1)
            fleet = Fleet(DEVICES, max(seconds * options.share, batch / RATE_HZ))
            batches[batch] = point(bootstrap, fleet, batch, f"{batch} readings a message")
        rates = {}
        for rate in RATES_HZ:
            fleet = Fleet(DEVICES, READINGS / DEVICES / rate * options.share, rate)
            rates[rate] = point(bootstrap, fleet, 1, f"{rate} Hz")
    results = {"devices": DEVICES, "table": table, "batches": batches, "rates": rates}
    save("throughput", {"input": Fleet(DEVICES, 1).origin, **results}, options.results)
    return 0


def start_up(bootstrap: str) -> dict[System, float]:
    """CPU seconds of a run with almost no input: the start costs the same for any input."""
    few = load(bootstrap, Fleet(PARTITIONS * 4, 0.1))
    return {system: system.run(for_one_run(few.topics), few.messages).cpu_s for system in SYSTEMS}


def compare(bootstrap: str, fleet: Fleet, batch: int, rounds: int) -> dict[str, Any]:
    """The product and the bare loop, in alternating rounds over the same readings."""
    begins = start_up(bootstrap)
    loaded = load(bootstrap, fleet, batch)
    print(f"{loaded.readings:,} readings in {loaded.messages:,} messages; {fleet.origin}")
    rates: dict[System, list[float]] = {system: [] for system in SYSTEMS}
    peaks: dict[System, list[float]] = {system: [] for system in SYSTEMS}
    for _ in range(rounds):
        for system in SYSTEMS:
            topics = for_one_run(loaded.topics)
            run = system.run(topics, loaded.messages)
            rates[system].append(loaded.readings / (run.cpu_s - begins[system]))
            peaks[system].append(run.peak_mib)
        check(fleet, loaded, topics)
        bare, own = rates[BARE][-1], rates[STEPSTREAM][-1]
        print(
            f"bare loop {bare:>11,.0f}/CPU-s  stepstream {own:>11,.0f}/CPU-s  ratio "
            f"{own / bare:.2f}  peak {run.peak_mib:.0f} MiB  {run.wall_s:.1f} s",
            flush=True,
        )
    ratios = [own / bare for bare, own in zip(rates[BARE], rates[STEPSTREAM], strict=True)]
    print(f"ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    return {
        "readings": loaded.readings,
        "messages": loaded.messages,
        "ratio": spread(ratios),
        **{s.name: {"per_cpu_s": spread(rates[s]), "peak_mib": spread(peaks[s])} for s in SYSTEMS},
    }


def check(fleet: Fleet, loaded: Loaded, topics: Any) -> None:
    """Raise unless the events are the steps that the detector finds in the signals themselves."""
    found = {
        (event["device_id"], round((event["ended_at"] - loaded.epoch_s) * 1e6))
        for event in topics.read_events()
    }
    if found != fleet.steps():
        raise RuntimeError(f"{len(found)} events, {len(fleet.steps())} steps in the signals")


def point(bootstrap: str, fleet: Fleet, batch: int, what: str) -> float:
    """Readings per CPU-second of one run of the product."""
    begin = start_up(bootstrap)[STEPSTREAM]
    loaded = load(bootstrap, fleet, batch)
    topics = for_one_run(loaded.topics)
    run = STEPSTREAM.run(topics, loaded.messages)
    check(fleet, loaded, topics)
    rate = loaded.readings / (run.cpu_s - begin)
    print(f"{what}: {rate:,.0f} readings/CPU-s", flush=True)
    return rate


if __name__ == "__main__":
    raise SystemExit(main())
