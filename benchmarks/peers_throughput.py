"""Readings per CPU-second of stepstream and its peers, in alternating rounds."""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from benchmarks.harness import PARTITIONS, add_results, running_broker, save, spread
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.systems import (
    BARE,
    BYTEWAX,
    FAUST,
    FLINK,
    KAFKA_STREAMS,
    LOOP,
    QUIX,
    QUIX_DEFAULT,
    STEPSTREAM,
)

if TYPE_CHECKING:
    from benchmarks.harness import Run
    from benchmarks.inputs import Loaded
    from benchmarks.systems import System

DEVICES = 1_000
SECONDS = {
    STEPSTREAM: 37.5,
    BARE: 37.5,
    KAFKA_STREAMS: 37.5,
    FLINK: 37.5,
    BYTEWAX: 10.0,
    QUIX: 4.0,
    QUIX_DEFAULT: 4.0,
    LOOP: 6.0,
    FAUST: 1.5,
}
"""Share of the input for each: slow systems get less, fast ones enough for a stable figure."""
LEAST_S = 1.5
WARM_AFTER = 2_000_000
"""Messages after which a virtual machine counts as warm."""
COLD = 1_000_000
IN_JAVA = {KAFKA_STREAMS, FLINK}
NO_JOB = {STEPSTREAM, BARE, LOOP}
"""Systems whose events are not those of the peers' job."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    parser.add_argument("--only", nargs="*", help="names of systems")
    add_results(parser)
    options = parser.parse_args()
    systems = [s for s in SECONDS if not options.only or s.name in options.only]
    for system in systems:
        system.prepare()
    runs: dict[System, list[Run]] = defaultdict(list)
    events: dict[System, set[str]] = {}
    start_up: dict[System, Run] = {}
    failed: dict[str, str] = {}
    lengths_s = {s: max(LEAST_S, round(SECONDS[s] * options.share, 1)) for s in systems}
    fleets = {s: Fleet(DEVICES, lengths_s[s]) for s in systems}
    with running_broker() as bootstrap:
        few = load(bootstrap, Fleet(PARTITIONS * 4, 0.1))
        loaded = {fleet: load(bootstrap, fleet) for fleet in set(fleets.values())}
        for number in range(options.rounds + 1):
            for system in list(systems):
                given = loaded[fleets[system]] if number else few
                topics = for_one_run(given.topics)
                try:
                    run = system.run(topics, given.messages)
                except RuntimeError as error:
                    # The figures of the others must not be lost; the table names the failed one.
                    print(f"{system.name} FAILED: {error}", flush=True)
                    failed[system.name] = str(error).splitlines()[0]
                    systems.remove(system)
                    events.pop(system, None)
                    continue
                if number == 0:
                    start_up[system] = run
                    print(f"start-up of {system.name}: {run.cpu_s:.2f} CPU-s", flush=True)
                    continue
                found = {event["event_id"] for event in topics.read_events()}
                if events.setdefault(system, found) != found:
                    raise RuntimeError(f"{system.name}: other events than in the previous round")
                runs[system].append(run)
                rate = given.readings / (run.cpu_s - start_up[system].cpu_s)
                print(
                    f"round {number}  {system.name:<30} {rate:>9,.0f}/CPU-s "
                    f"{run.cpu_s:6.1f} CPU-s {run.wall_s:6.1f} s {run.peak_mib:5.0f} MiB "
                    f"{len(found)} events",
                    flush=True,
                )
        check_events(events, loaded, fleets)
    table = {
        system.name: figures(system, fleets[system], start_up[system], runs[system])
        for system in systems
    }
    show(table)
    results = {"devices": DEVICES, "systems": table, "failed": failed}
    save("peers", {"input": Fleet(DEVICES, 1.0).origin, **results}, options.results)


def check_events(
    events: dict[System, set[str]], loaded: dict[Fleet, Loaded], fleets: dict[System, Fleet]
) -> None:
    """Check that all peers find the same steps, and stepstream those of the detector."""
    print("checked: ", end="")
    for system, found in events.items():
        if system is STEPSTREAM and len(found) != len(fleets[system].steps()):
            raise RuntimeError(f"{len(found)} events, {len(fleets[system].steps())} expected")
        if system is not BARE and not found:
            raise RuntimeError(f"{system.name}: no events")
    peers = [s for s in events if s not in NO_JOB]
    for one in peers:
        for other in peers:
            common = begin_of_both(loaded[fleets[one]], loaded[fleets[other]])
            if cut(events[one], common) != cut(events[other], common):
                raise RuntimeError(f"{one.name} and {other.name} find different steps")
    print(f"all systems found the expected steps; {len(peers)} peers agree")


def begin_of_both(one: Loaded, other: Loaded) -> int:
    """Offsets below this are the same readings in both topics."""
    return min(one.messages, other.messages) // PARTITIONS


def cut(found: set[str], end: int) -> set[str]:
    """Partition and offset of events before an offset, without the topic's name."""
    places = {name.split("-", 2)[2] for name in found}
    return {place for place in places if int(place.split("-")[1]) < end}


def figures(system: System, fleet: Fleet, start_up: Run, runs: list[Run]) -> dict[str, Any]:
    """The figures of a system's runs."""
    readings = fleet.readings
    result: dict[str, Any] = {
        "guarantee": system.guarantee,
        "readings": readings,
        "start_up_cpu_s": start_up.cpu_s,
        "per_cpu_s": spread([readings / (r.cpu_s - start_up.cpu_s) for r in runs]),
        "peak_mib": spread([r.peak_mib for r in runs]),
    }
    if system in IN_JAVA and readings > WARM_AFTER:
        ends = [(r.cpu_at(WARM_AFTER), r.cpu_at(readings)) for r in runs]
        result["warm_per_cpu_s"] = spread([(readings - WARM_AFTER) / (b - a) for a, b in ends])
    # Flink's start costs more CPU time than its first million messages: what is left says nothing.
    if system is KAFKA_STREAMS and readings > COLD:
        result["cold_per_cpu_s"] = spread([COLD / (r.cpu_at(COLD) - start_up.cpu_s) for r in runs])
    return result


def show(table: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    own = table.get(STEPSTREAM.name, {}).get("per_cpu_s", {}).get("median")
    for name, row in table.items():
        kinds = {"": "per_cpu_s", ", warm": "warm_per_cpu_s", ", cold": "cold_per_cpu_s"}
        for kind, key in kinds.items():
            if key in row:
                rate = row[key]
                ratio = f"stepstream {own / rate['median']:6.2f} x" if own else ""
                print(
                    f"{name + kind:<32} {rate['median']:>9,.0f} ({rate['min']:,.0f} to "
                    f"{rate['max']:,.0f})  {row['peak_mib']['median']:5.0f} MiB  {ratio}"
                )


if __name__ == "__main__":
    main()
