"""What the benchmarks share: a broker, processes and their cost, results."""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from stepstream.native import decoder_name
from tests.kafka.broker import Broker, die_with_parent
from tests.kafka.builders import NOT_YET, TopicSet, wait_until
from tests.kafka.jars import POM

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
PARTITIONS = 4
RATE_HZ = 80
"""Rate of the recordings."""
DEADLINE_S = 900.0
SAMPLE_S = 0.05
TICKS_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def running_broker() -> Iterator[str]:
    """Address of a broker: KAFKA_BOOTSTRAP, or a broker that is started for this run."""
    given = os.environ.get("KAFKA_BOOTSTRAP")
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder))
        broker.start()
        try:
            yield broker.bootstrap
        finally:
            broker.kill()


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used so far, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2]
    user, system = fields.split()[11:13]
    return (int(user) + int(system)) / TICKS_S


def children(pid: int) -> list[int]:
    """Process ids of the children of a process."""
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split())]


class Process:
    """A program under measurement; what it writes goes to a file."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        folder = Path(tempfile.mkdtemp(prefix="stepstream-bench-"))
        self._log = folder / "log"
        self.began_s = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment, "BENCH_FOLDER": str(folder)},
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU it has used so far."""
        return cpu_s(self.pid)

    @property
    def resident_mib(self) -> float:
        """Its memory now."""
        return self._status_mib("VmRSS")

    @property
    def peak_mib(self) -> float:
        """Its peak memory so far; the kernel's figure at the end includes the fork."""
        return self._status_mib("VmHWM")

    def _status_mib(self, name: str) -> float:
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        lines = [line for line in status.splitlines() if line.startswith(name)]
        # A process that has just ended has no figures any more.
        return int(lines[0].split()[1]) / 1024 if lines else 0.0

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended; `end` still gives the CPU time that it used."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is None

    def check(self) -> None:
        """Raise if it has ended."""
        if not self.is_alive:
            raise RuntimeError(f"ended early:\n{self._tail()}")

    def end(self, number: int | None = signal.SIGTERM) -> float:
        """Ask it to end, or wait until it does; the CPU seconds that it has used."""
        if number is not None:
            self._process.send_signal(number)
        _, status, usage = os.wait4(self.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        # The exit code of a JVM that ends by SIGTERM.
        if self._process.returncode not in {0, 128 + signal.SIGTERM, -signal.SIGTERM}:
            raise RuntimeError(f"ended with {self._process.returncode}:\n{self._tail()}")
        return usage.ru_utime + usage.ru_stime

    @property
    def output(self) -> str:
        """The text that it has written so far."""
        return self._log.read_text(errors="replace")

    def _tail(self) -> str:
        return self.output[-4000:]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.wait()


class Progress:
    """How many messages a group has committed."""

    def __init__(self, topics: TopicSet) -> None:
        self._consumer = Consumer({"bootstrap.servers": topics.bootstrap, "group.id": topics.group})
        self._asked = [TopicPartition(topics.readings, p) for p in range(topics.partitions)]

    def total(self) -> int:
        """All partitions together; the topic begins at 0."""
        try:
            found = self._consumer.committed(self._asked, 10)
        except KafkaException as error:
            if error.args[0].code() not in NOT_YET:
                raise
            return 0
        return sum(max(0, tp.offset) for tp in found)

    def sent(self) -> int:
        """How many messages are there."""
        ends = [self._consumer.get_watermark_offsets(tp, 10, cached=False) for tp in self._asked]
        return sum(end for _, end in ends)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def wait_for_members(topics: TopicSet, shares: Sequence[int] | None = None) -> None:
    """Until a group has a member, or members that own so many partitions each."""

    def joined() -> bool:
        try:
            members = topics.describe_group().members
        except KafkaException as error:
            # A broker that has just started is still loading its groups.
            if error.args[0].code() not in NOT_YET | {KafkaError._TIMED_OUT}:  # noqa: SLF001
                raise
            return False
        owned = sorted(len(m.assignment.topic_partitions) for m in members if m.assignment)
        return bool(members) if shares is None else owned == sorted(shares)

    wait_until(f"members of {topics.group}", joined, DEADLINE_S)


@dataclass(frozen=True)
class Run:
    """What one process did and cost.

    Attributes
    ----------
    cpu_s, peak_mib
        From beginning to end, as the kernel counts them.
    wall_s
        Seconds until everything was committed.
    resident_mib
        Memory at that time.
    samples
        Seconds since the start, messages committed, seconds of CPU; at equal steps.
    """

    cpu_s: float
    wall_s: float
    peak_mib: float
    resident_mib: float = 0.0
    samples: list[tuple[float, int, float]] = field(default_factory=list)

    def cpu_at(self, messages: int) -> float:
        """Seconds of CPU when this many messages were committed, interpolated."""
        before = (0.0, 0, 0.0)
        for sample in self.samples:
            if sample[1] >= messages:
                share = (messages - before[1]) / (sample[1] - before[1])
                return before[2] + share * (sample[2] - before[2])
            before = sample
        raise ValueError(f"{messages} messages were never committed")


def run_to_end(
    command: Sequence[str], environment: Mapping[str, str], topics: TopicSet, messages: int | None
) -> Run:
    """Run a consumer until it has committed all messages, then end it.

    Without a number of messages, wait until it ends by itself.
    """
    samples: list[tuple[float, int, float]] = []
    if messages is None:
        with Process(command, environment) as process:
            peak_mib = 0.0
            while process.is_alive:
                peak_mib = max(peak_mib, process.peak_mib)
                time.sleep(SAMPLE_S)
            wall_s = time.monotonic() - process.began_s
            return Run(process.end(None), wall_s, peak_mib)
    with Process(command, environment) as process, Progress(topics) as progress:
        while True:
            process.check()
            total, used_s = progress.total(), process.cpu_s
            now_s = time.monotonic() - process.began_s
            if not samples or total > samples[-1][1]:
                samples.append((now_s, total, used_s))
            if total >= messages:
                break
            if now_s > DEADLINE_S:
                raise RuntimeError(f"{total} of {messages} messages in {DEADLINE_S:.0f} s")
            time.sleep(SAMPLE_S)
        resident_mib, peak_mib = process.resident_mib, process.peak_mib
        used_s = process.end()
    return Run(used_s, now_s, peak_mib, resident_mib, samples)


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest of some figures."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def machine() -> dict[str, str]:
    """The machine and the versions of a measurement."""
    cpu = next(
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr
    kafka = POM.read_text(encoding="utf-8").partition("<artifactId>kafka_2.13</artifactId>")[2]
    return {
        "taken": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{pages:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.1f} at the end",
        "python": platform.python_version(),
        "java": java.split('"')[1],
        "kafka": kafka.partition("<version>")[2].partition("</version>")[0],
        **{name: version(name) for name in ("confluent-kafka", "ai-edge-litert", "numpy")},
        "decoder": decoder_name(),
    }


def add_results(parser: argparse.ArgumentParser) -> None:
    """The option for the folder of the results."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder to write to")


def save(name: str, results: Mapping[str, Any], folder: Path) -> None:
    """Write results, with the machine and the command, for `benchmarks.report`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m {__spec_name()} {' '.join(sys.argv[1:])}".strip()
    content = {"command": command, "machine": machine(), **results}
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def __spec_name() -> str:
    spec = sys.modules["__main__"].__spec__
    return spec.name if spec else Path(sys.argv[0]).stem
