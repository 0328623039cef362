"""Readings per CPU-second of the consumer beside a bare consume-and-parse loop."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

from benchmarks.harness import PARTITIONS, RATE_HZ, load_readings, run_consumer, running_broker
from tests.kafka.builders import TopicSet

DEVICES = 1_000
SYSTEMS = {"bare loop": "benchmarks.bare_loop", "stepstream": "stepstream"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer readings")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    results: dict[str, object] = {}
    ratio = ""
    with running_broker() as bootstrap:
        empty = TopicSet.create(bootstrap, PARTITIONS)
        load_readings(empty, 25, 1 / RATE_HZ, 1)
        start_up = {name: run_consumer(empty, module) for name, module in SYSTEMS.items()}
        for name, run in start_up.items():
            print(f"start-up of {name}: {run.cpu_s:.2f} CPU-s, {run.peak_mib:.0f} MiB")
        for batch in (50, 1):
            seconds = (5 if options.quick else 12) * (2 if batch > 1 else 1)
            topics = TopicSet.create(bootstrap, PARTITIONS)
            count = load_readings(topics, DEVICES, seconds, batch)
            readings = round(DEVICES * RATE_HZ * seconds)
            print(f"\n{readings:,} readings in {count:,} messages of {batch}")
            rounds = []
            for _ in range(options.rounds):
                runs = {name: run_consumer(topics, module) for name, module in SYSTEMS.items()}
                # The start costs the same however much there is to read.
                per_s = {
                    name: readings / (run.cpu_s - start_up[name].cpu_s)
                    for name, run in runs.items()
                }
                rounds.append({name: (per_s[name], runs[name].peak_mib) for name in SYSTEMS})
                print(
                    "  ".join(f"{name}: {per_s[name]:>11,.0f}/CPU-s" for name in SYSTEMS),
                    f" ratio {per_s['stepstream'] / per_s['bare loop']:.2f}",
                    f" peak {runs['stepstream'].peak_mib:.0f} MiB",
                    f" {runs['stepstream'].wall_s:.1f} s",
                    flush=True,
                )
            results[str(batch)] = rounds
            ratios = sorted(r["stepstream"][0] / r["bare loop"][0] for r in rounds)
            rates = [r["stepstream"][0] for r in rounds]
            ratio = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            print(f"median {median(rates):,.0f} readings per CPU-second, ratio {ratio}")
    Path("build").mkdir(exist_ok=True)
    Path("build/throughput.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    print(f"\nsingle readings, stepstream to bare loop: {ratio}")


if __name__ == "__main__":
    main()
