"""CPU time of the stages between the client and the commit, without Kafka, in one process.

Messages as the other benchmarks write them go through the processor in polls as large as the
consumer's. Several trees of the source can be compared: each runs in a process of its own, and they
take turns in every round. All of them have to give the same records::

    python -m benchmarks.stages --trees ../before . --batches 1 50 500 --rounds 5
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from operator import attrgetter
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import Message

from benchmarks.binary_forms import forms
from benchmarks.harness import PARTITIONS, RATE_HZ
from benchmarks.inputs import Fleet
from stepstream.detection import Model, default_model_path
from stepstream.inputs import MessageWriter
from stepstream.settings import InputSettings, Settings
from stepstream.streaming import processor as processing
from stepstream.streaming.totals import STAGES, Totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEVICES = 1_000
EPOCH_S = 1_760_000_000
SECONDS = {1: 4.0, 50: 20.0, 500: 25.0}
"""Seconds of input by readings in a message."""
POLL_MESSAGES, POLL_BYTES = 8_000, 1 << 20
"""What a poll consumes at most; the bytes are those of the client's queue."""
REST = "rest"
"""What belongs to no stage."""


class Kind(NamedTuple):
    """Readings in a message, and the place of their form among those of `binary_forms`."""

    batch: int
    form: int

    @property
    def name(self) -> str:
        """How the table calls it."""
        return f"{self.batch} a message, {forms()[self.form].name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=Path, nargs="+", default=[Path()])
    parser.add_argument("--batches", type=int, nargs="+", default=list(SECONDS))
    parser.add_argument("--forms", type=int, nargs="+", default=[0], help="0 is plain JSON")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the input, for a short try")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    kinds = [Kind(batch, form) for batch in options.batches for form in options.forms]
    if options.serve:
        (kind,) = kinds
        serve(kind, options.share, sys.stdin, sys.stdout)
        return
    for kind in kinds:
        trees = [Tree(path, kind, options.share) for path in options.trees]
        rounds = [[tree.run() for tree in trees] for _ in range(options.rounds)]
        for tree in trees:
            tree.end()
        if len({run["records"] for runs in rounds for run in runs}) > 1:
            raise RuntimeError(f"{kind.name}: the records differ")
        show(kind, options.trees, rounds)


class Tree:
    """A process that runs one tree's code."""

    def __init__(self, path: Path, kind: Kind, share: float) -> None:
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--serve"]
        command += ["--batches", str(kind.batch), "--forms", str(kind.form)]
        environment = {**os.environ, "PYTHONPATH": str(path.resolve())}
        self._process = subprocess.Popen(
            [*command, "--share", str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=path,
            text=True,
        )
        self._process.stdout.readline()  # type: ignore[union-attr]

    def run(self) -> dict[str, Any]:
        """Microseconds a reading of each stage, and what the records were."""
        self._process.stdin.write("\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        found: dict[str, Any] = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
        return found

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def show(kind: Kind, trees: Sequence[Path], rounds: list[list[dict[str, Any]]]) -> None:
    """Print the stages of every tree, and their ratio to the first tree's."""
    print(f"{kind.name}: us of CPU time a reading, median (smallest to largest)")
    for name in (*STAGES, REST, "all"):
        line = f"  {name:<10}"
        for column in range(len(trees)):
            figures = [runs[column][name] for runs in rounds]
            ratio = median(runs[column][name] / runs[0][name] for runs in rounds)
            line += f"{median(figures):>8.3f} ({min(figures):.3f} to {max(figures):.3f})"
            line += f" {ratio:.2f}" if column else ""
        print(line, flush=True)


def serve(kind: Kind, share: float, orders: IO[str], answers: IO[str]) -> None:
    """Answer each line of ``orders`` with the figures of one run."""
    form, batch = forms()[kind.form], kind.batch
    given, writer = dict(form.settings), None
    with tempfile.TemporaryDirectory() as folder:
        if form.schema:
            file = Path(folder) / "schema"
            file.write_bytes(form.schema)
            given["schema"] = str(file)
            writer = MessageWriter(InputSettings.model_validate(given), None)
        settings = Settings(input=InputSettings.model_validate(given))
        model = Model(default_model_path())
        fleet = Fleet(DEVICES, SECONDS.get(batch, 20.0) * share, RATE_HZ)
        polls = list(make_polls(fleet, batch, writer))
        gc.freeze()
        gc.set_threshold(100_000)
        run(model, settings, polls)  # makes interpreters
        for _ in iter(lambda: print(flush=True, file=answers) or orders.readline(), ""):
            found = run(model, settings, polls)
            figures = {name: took_s / fleet.readings * 1e6 for name, took_s in found[0].items()}
            answers.write(json.dumps({**figures, "records": found[1]}))


def make_polls(
    fleet: Fleet, batch: int, writer: MessageWriter | None
) -> Iterator[dict[int, list[Message]]]:
    """Messages of each partition, in polls."""
    offsets = [0] * PARTITIONS
    poll: dict[int, list[Message]] = {}
    count = size = 0
    for due_s, device, key, value in fleet.messages(EPOCH_S, batch, writer):
        number = device % PARTITIONS
        message = Message(
            topic="readings",
            partition=number,
            offset=offsets[number],
            key=key,
            value=value,
            timestamp=(1, int((EPOCH_S + due_s) * 1000)),
        )
        offsets[number] += 1
        poll.setdefault(number, []).append(message)
        count, size = count + 1, size + len(value)
        if count == POLL_MESSAGES or size > POLL_BYTES:
            yield poll
            poll, count, size = {}, 0, 0
    yield poll


def run(
    model: Model, settings: Settings, polls: list[dict[int, list[Message]]]
) -> tuple[dict[str, float], str]:
    """Process all messages; seconds of CPU time of each stage, and a hash of all records."""
    totals = Totals()
    # The processor measures its stages by this clock.
    vars(processing)["time"] = SimpleNamespace(perf_counter=time.process_time)
    processor = processing.Processor(model, settings, totals)
    partitions = [processor.add_partition("readings", number) for number in range(PARTITIONS)]
    digest, took_s = hashlib.sha256(), 0.0
    now_us = (EPOCH_S + 3_600) * 1_000_000
    for poll in polls:
        polled = {partitions[number]: messages for number, messages in poll.items()}
        begin_s = time.process_time()
        results = processor.process(polled, now_us)  # type: ignore[arg-type]
        took_s += time.process_time() - begin_s
        for one in results:
            records = (*one.records, *one.latest.values())
            # Between devices, the order of records says nothing.
            for record in sorted(records, key=attrgetter("topic", "key")):
                digest.update(repr((record.topic, record.key, record.value)).encode())
    stage_s = dict(totals.stage_s)
    stage_s[REST] = took_s - sum(stage_s.values())
    return {**stage_s, "all": took_s}, digest.hexdigest()


if __name__ == "__main__":
    main()
