"""Many rounds of faults: ``python -m tests.faults --rounds 100``."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import ROOT
from tests.faults.driver import FORMAT, SENSOR, SPLIT_BY, Round, Site
from tests.kafka.played import PEOPLE


def recordings() -> list[Path]:
    """One recording each of some people, if there are any here."""
    folder = Path(os.environ.get("TEST_DATA", ROOT.parent / "shared" / "data")) / "simul-hand"
    found = [sorted((folder / person).glob("*.csv.gz")) for person in PEOPLE]
    return [files[0] for files in found if files]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--mutation", help="a mistake that has to be noticed; stops when it is")
    parser.add_argument("--split", action="store_true", help="sensors that send apart, always")
    parser.add_argument("--avro", action="store_true", help="messages in Avro, always")
    parser.add_argument("--older", type=Path, help="checkout of a release that half of them run")
    parser.add_argument("--other-model", type=Path, help="model file that half of them have")
    options = parser.parse_args()
    fixed = {"FAULT_MUTATION": options.mutation} if options.mutation else {}
    if options.split:
        fixed[SPLIT_BY] = json.dumps(SENSOR)
    if options.avro:
        fixed[FORMAT] = "avro"
    if options.other_model:
        # Repeated events of `at_least_once` can't be told from those of the other model.
        fixed["STEPSTREAM_PROCESSING__GUARANTEE"] = "exactly_once"
    injected: Counter[str] = Counter()
    exits: Counter[str] = Counter()
    failed, events = [], 0
    outputs: Counter[str] = Counter()
    begin_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    with Site(folder / "broker") as site:
        for seed in range(options.seed, options.seed + options.rounds):
            report = Round(
                site,
                seed,
                folder,
                recordings(),
                fixed,
                options.older,
                other_model=options.other_model,
            ).run()
            injected += report.injected
            exits += report.exits
            events += report.events
            outputs += report.outputs
            verdict = "WRONG" if report.wrong else "ok"
            print(
                f"seed {seed:4}  {verdict:5}  {report.events:5} events  "
                f"{time.monotonic() - begin_s:6.0f} s  {dict(report.injected)}",
                flush=True,
            )
            if report.wrong:
                failed.append(seed)
                print(report, flush=True)
                if options.mutation:
                    break
    print(
        json.dumps(
            {
                "rounds": options.rounds,
                "first seed": options.seed,
                "failed": failed,
                "events": events,
                **outputs,
                "injected": injected,
                "exits": exits,
            },
            indent=2,
        )
    )
    print(f"logs: {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
