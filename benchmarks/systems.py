"""The product and its peers: how each is installed and started."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import ROOT, Run, run_to_end
from stepstream.detection import default_model_path

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.kafka.builders import TopicSet

PEERS = Path(__file__).parent / "peers"
STOP_AT_END = "BENCH_STOP_AT_END"


@dataclass(frozen=True, eq=False)
class System:
    """A consumer of readings.

    Attributes
    ----------
    name
        Name in the tables.
    guarantee
        Its delivery guarantee, and how often it commits.
    prepare
        Installs what it needs, once; returns the command that starts it.
    environment
        More environment variables than topics and group.
    ends_itself
        It commits no offsets to Kafka and ends where the topic ends.
    """

    name: str
    guarantee: str
    prepare: Callable[[], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    ends_itself: bool = False

    def environment_for(self, topics: TopicSet, *, stop_at_end: bool = False) -> dict[str, str]:
        """Environment of its process."""
        return {
            **topics.environment(),
            "STEPSTREAM_KAFKA__TRANSACTIONAL_ID": topics.group,
            "STEPSTREAM_LOGGING__LEVEL": "warning",
            "BENCH_BOOTSTRAP": topics.bootstrap,
            "BENCH_READINGS": topics.readings,
            "BENCH_EVENTS": topics.events,
            "BENCH_GROUP": topics.group,
            "BENCH_MODEL": str(default_model_path()),
            STOP_AT_END: "1" if stop_at_end else "",
            "PYTHONPATH": f"{ROOT}:{PEERS}",
            **self.environment,
        }

    def run(self, topics: TopicSet, messages: int, **more: str) -> Run:
        """Run it over a topic from beginning to end; ``more`` are environment variables."""
        return run_to_end(
            self.prepare(),
            {**self.environment_for(topics, stop_at_end=True), **more},
            topics,
            None if self.ends_itself else messages,
        )


def cache_folder(name: str, *sources: Path) -> Path:
    """Folder for a build from these files, which is reused."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME", ROOT / ".cache"))
    return cache / f"stepstream-bench-{name}-{digest}"


def peer_python(name: str) -> str:
    """The interpreter of a peer's own virtual environment."""
    requirements = PEERS / name / "requirements.txt"
    folder = cache_folder(name, requirements)
    done = folder / "installed"
    if not done.exists():
        print(f"installing {name}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        # The product's own constraints are not for the peers.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
        subprocess.run(
            [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps",
             "--disable-pip-version-check", "-r", str(requirements)],
            check=True, env=environment,
        )  # fmt: skip
        done.touch()
    return str(folder / "bin/python")


def _java(name: str, *options: str) -> Callable[[], list[str]]:
    """A peer in Java, built when its command is first asked for."""

    def command() -> list[str]:
        project = PEERS / name
        sources = sorted(path for path in project.rglob("*") if path.is_file())
        folder = cache_folder(name, *sources)
        done = folder / "built"
        if not done.exists():
            print(f"building {name}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(project, folder)
            subprocess.run(
                ["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), "package",
                 "dependency:copy-dependencies", "-DoutputDirectory=libs",
                 "-DincludeScope=runtime"],
                check=True,
            )  # fmt: skip
            done.touch()
        classpath = f"{folder}/libs/*:{folder}/target/steps.jar"
        return ["java", "-Xmx1g", *options, "-cp", classpath, "stepstream.Steps"]

    return command


def _peer(name: str, *arguments: str) -> Callable[[], list[str]]:
    return lambda: [peer_python(name), str(PEERS / name / "app.py"), *arguments]


STEPSTREAM = System(
    "stepstream",
    "exactly-once, 100 ms",
    lambda: [sys.executable, "-m", "stepstream", "run"],
)
BARE = System(
    "bare loop",
    "offsets in transactions, 100 ms",
    lambda: [sys.executable, "-m", "benchmarks.bare_loop"],
)
LOOP = System("hand-written loop", "at-least-once, 100 ms", _peer("loop"))
QUIX = System(
    "Quix Streams", "exactly-once, 100 ms", _peer("quix"), {"BENCH_COMMIT_INTERVAL_S": "0.1"}
)
QUIX_DEFAULT = System(
    "Quix Streams, default commits",
    "exactly-once, 5 s",
    _peer("quix"),
    {"BENCH_COMMIT_INTERVAL_S": "5"},
)
FAUST = System(
    "Faust", "at-least-once, 100 ms", _peer("faust", "worker", "--loglevel=warn", "--without-web")
)
BYTEWAX = System(
    "Bytewax", "at-least-once, recovery every 10 s", _peer("bytewax"), ends_itself=True
)
KAFKA_STREAMS = System("Kafka Streams (Java)", "exactly-once, 100 ms", _java("kafka_streams"))
FLINK = System(
    "Flink (Java)",
    "exactly-once, 100 ms",
    _java("flink", "--add-opens=java.base/java.util=ALL-UNNAMED"),
)
