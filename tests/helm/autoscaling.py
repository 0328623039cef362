"""``make test-autoscaling``: consumers follow a step of the load up and down.

KEDA reads the lag of a real group from a real broker and sets the number of pods of a release of
the chart. For each pod on the control plane's simulated nodes, a real ``stepstream run`` is started
here with that pod's environment, and it gets SIGTERM when the pod is deleted. The results are
written to build/autoscaling.json, and a picture of them to build/autoscaling.png.

``--lateness``: the same with a lag that never asks for a pod, and a real Prometheus that scrapes
the pods. So it is the lateness of events that adds them, and none goes while Prometheus is away.
The results are in build/autoscaling-lateness.json then, with no picture.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.deploy.prometheus import Prometheus
from tests.deploy.prometheus import missing_tool as missing_prometheus
from tests.helm.control_plane import ControlPlane
from tests.helm.keda import start_keda
from tests.helm.tools import CONTROL_PLANE, KEDA, ROOT, cache_folder, find_crds, find_tool
from tests.kafka.broker import Broker, free_port, missing_tool
from tests.kafka.builders import TopicSet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

CHART = ROOT / "helm" / "stepstream"
BUILD = ROOT / "build"
NAMESPACE, BLIND = "steps", "blind"
NAME = "steps-stepstream"
PARTITIONS = 6
RATE = 80
"""Readings a second of each device; each reading is a message."""

POD_MESSAGES = 100
"""Most messages in a poll. With the pause that `small_pod` makes after each poll, pods are slow, so
a small machine can load several."""
POD_RATE = 450
"""Messages a second that such a pod processes, about."""
TOLERABLE_DELAY_S = 5
LAG_THRESHOLD = POD_RATE * TOLERABLE_DELAY_S
NEVER = 10**9
"""A lag that asks for no pod."""
RELEASE = "steps"

LOW, HIGH = 3, 20
"""Devices: 240 messages a second, about half of one pod's rate, and 1,600, over three pods'."""
BEFORE_S, STEP_S = 30, 75
SETTLED_S = 10
"""Before the load step: by then the first pod has processed the messages from before its start."""
CALM_S = 60
"""Stabilization window of scaling down; the chart's default is 600."""
DOWN_PERIOD_S = 10
FALLBACK = 2
"""Pods at least while KEDA can't read the lag."""
DEADLINE_S = 300

VALUES: dict[str, Any] = {
    "settings": {
        "processing": {"poll_max_messages": POD_MESSAGES},
        "topics": {"partitions": PARTITIONS},
    },
    "autoscaling": {
        "kind": "keda",
        "minReplicas": 1,
        "keda": {
            "lagThreshold": LAG_THRESHOLD,
            "pollingInterval": 5,
            "fallback": {"replicas": FALLBACK},
        },
        "behavior": {
            "scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 15}]},
            "scaleDown": {
                "stabilizationWindowSeconds": CALM_S,
                "policies": [{"type": "Pods", "value": 1, "periodSeconds": DOWN_PERIOD_S}],
            },
        },
    },
}
"""The chart's values; only the times are shorter than its own, so that a run lasts minutes."""


@dataclass(frozen=True)
class Sample:
    """What was seen at one time.

    Attributes
    ----------
    at_s
        Seconds since the run began.
    lag
        Messages in the readings topic that aren't committed, as this program asks the broker.
    lag_of_keda
        The last value that KEDA gave to the autoscaler, for each pod.
    replicas, processes
        Pods that the StatefulSet should have; consumers that run.
    """

    at_s: float
    lag: int
    lag_of_keda: str | None
    replicas: int
    processes: int


class Kubelets:
    """Runs a consumer for each pod of the StatefulSet, for as long as the pod exists."""

    def __init__(self, cluster: ControlPlane, folder: Path, prometheus: Prometheus | None) -> None:
        self._cluster = cluster
        self._folder = folder
        self._prometheus = prometheus
        self._addresses: dict[tuple[str, str], str] = {}
        self._running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
        self._leaving: list[subprocess.Popen[bytes]] = []
        self._stop = Event()
        self._thread = Thread(target=self._keep_up, name="kubelets")
        self.exit_codes: Counter[int] = Counter()

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._leaving

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for process in [*self._running.values(), *self._leaving]:
            process.kill()
            process.wait()

    def _keep_up(self) -> None:
        while not self._stop.wait(0.3):
            wanted = self._pods()
            for key in [key for key in self._running if key not in wanted]:
                process = self._running.pop(key)
                process.terminate()
                self._leaving.append(process)
            for key in wanted:
                if key not in self._running:
                    port = free_port()
                    self._running[key] = self._start(wanted[key], port)
                    self._addresses[key] = f"127.0.0.1:{port}"
            if self._prometheus:
                targets = [self._addresses[key] for key in self._running]
                self._prometheus.scrape(targets, namespace=NAMESPACE)
            for process in [p for p in self._leaving if p.poll() is not None]:
                self._leaving.remove(process)
                self.exit_codes[process.returncode] += 1

    def _pods(self) -> dict[tuple[str, str], dict[str, Any]]:
        path = f"api/v1/namespaces/{NAMESPACE}/pods"
        selector = "app.kubernetes.io%2Fname%3Dstepstream"
        return {
            (pod["metadata"]["name"], pod["metadata"]["uid"]): pod
            for pod in self._cluster.api.list(path, selector)
            if pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        }

    def _start(self, pod: dict[str, Any], port: int) -> subprocess.Popen[bytes]:
        container = pod["spec"]["containers"][0]
        name = pod["metadata"]["name"]
        config = f"api/v1/namespaces/{NAMESPACE}/configmaps/{NAME}"
        environment = {**os.environ, **self._cluster.api.get(config)["data"]}
        for variable in container["env"]:
            value = variable.get("value", name)
            environment[variable["name"]] = value.replace("$(POD_NAME)", name)
        # All pods are on one machine here.
        environment["STEPSTREAM_HTTP__PORT"] = str(port)
        environment["PYTHONPATH"] = str(ROOT)
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.helm.small_pod", *container["args"]],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )


class Run:
    """One run: the load, and its results."""

    def __init__(self, cluster: ControlPlane, topics: TopicSet, kubelets: Kubelets) -> None:
        self._cluster = cluster
        self._topics = topics
        self._kubelets = kubelets
        self._begin_s = time.monotonic()
        self.samples: list[Sample] = []
        self.marks: dict[str, float] = {}

    def note(self, what: str) -> None:
        self.marks[what] = round(time.monotonic() - self._begin_s, 1)
        sys.stdout.write(f"{self.marks[what]:6.1f} s  {what}\n")
        sys.stdout.flush()

    def replicas(self) -> int:
        path = f"apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/{NAME}"
        return int(self._cluster.api.get(path)["spec"]["replicas"])

    def has_begun(self) -> bool:
        """Whether the group has committed something."""
        return sum(self._topics.committed().values()) > 0

    def sample(self) -> Sample:
        self._cluster.check()
        committed = self._topics.committed()
        ends = self._topics.end_offsets(self._topics.readings)
        scaler = self._cluster.api.get(
            f"apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/{NAME}"
        )
        told = [
            m["external"]["current"]
            for m in scaler["status"].get("currentMetrics") or []
            if m.get("external")
        ]
        sample = Sample(
            round(time.monotonic() - self._begin_s, 1),
            sum(end - committed.get(p, 0) for p, end in ends.items()),
            told[0].get("averageValue") if told else None,
            self.replicas(),
            self._kubelets.running,
        )
        if not self.samples or self.samples[-1].replicas != sample.replicas:
            sys.stdout.write(f"{sample.at_s:6.1f} s  {sample.replicas} pods, lag {sample.lag:,}\n")
            sys.stdout.flush()
        self.samples.append(sample)
        return sample

    def watch(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.sample()

    def watch_until(self, replicas: int) -> None:
        wait_until(f"{replicas} pods", lambda: self.sample().replicas == replicas, DEADLINE_S)

    def write(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        seen = {"marks": self.marks, "samples": [asdict(sample) for sample in self.samples]}
        path.write_text(json.dumps(seen, indent=1) + "\n")

    @contextmanager
    def load(self, devices: int) -> Iterator[None]:
        """Devices that send readings during the run."""
        process = subprocess.Popen(
            [sys.executable, "-m", "stepstream", "simulate", f"--devices={devices}",
             f"--rate={RATE}"],
            env={**os.environ, **self._topics.environment()},
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def missing_parts(*, by_lateness: bool) -> list[str]:
    """What the run needs and is missing."""
    absent = [name for name in (*CONTROL_PLANE, *KEDA, "helm") if find_tool(name) is None]
    absent += [] if find_crds("keda-crd") else ["keda-crd"]
    tools = [missing_tool(), missing_prometheus() if by_lateness else None]
    return absent + [tool for tool in tools if tool]


def check(run: Run) -> list[str]:
    """What is wrong with how the number of pods followed the load, if anything."""
    replicas = [sample.replicas for sample in run.samples]
    least, most = min(replicas), max(replicas)
    changes = [
        (after.at_s, after.replicas - before.replicas)
        for before, after in pairwise(run.samples)
        if after.replicas != before.replicas
    ]
    down = [at_s for at_s, change in changes if change < 0]
    first_down_s = min(down, default=float("inf"))
    step_s, end_s = run.marks["load step begins"], run.marks["load step ends"]
    lag_before = max(s.lag for s in run.samples if step_s - SETTLED_S < s.at_s < step_s)
    rules = {
        f"{least} to {most} pods, not 1 to {PARTITIONS}": not 1 <= least <= most <= PARTITIONS,
        f"at most {most} pods, too few for the load": most * POD_RATE < HIGH * RATE,
        f"lag {lag_before:,} before the load step": lag_before > LAG_THRESHOLD,
        "pods were added before the load": any(at_s < step_s for at_s, _ in changes),
        "pods were removed while the load was high": first_down_s < end_s,
        "pods were removed while nothing was known": first_down_s
        < run.marks.get("Prometheus answers again", 0),
        "pods were added again after the first was removed": any(
            change > 0 and at_s > first_down_s for at_s, change in changes
        ),
        "more than one pod was removed at a time": any(change < -1 for _, change in changes),
        "pods were removed too quickly": any(
            after - before < DOWN_PERIOD_S / 2 for before, after in pairwise(down)
        ),
    }
    return [what for what, holds in rules.items() if holds]


def check_results(events: Sequence[dict[str, Any]], exit_codes: Counter[int]) -> list[str]:
    """What is wrong with what the consumers published and how they ended, if anything."""
    numbers = defaultdict(list)
    for event in events:
        numbers[event["device_id"]].append(event["step_count"])
    whole = all(counts == list(range(1, len(counts) + 1)) for counts in numbers.values())
    rules = {
        "not every device made steps": len(numbers) < HIGH,
        "step counts have gaps or repeats": not whole,
        f"consumers ended with {dict(exit_codes)}": set(exit_codes) != {0},
    }
    return [what for what, holds in rules.items() if holds]


def draw(samples: Sequence[Sample], marks: dict[str, float], path: Path) -> None:
    """Lag and replicas against time."""
    mpl.rcParams["svg.hashsalt"] = "autoscaling"
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    at_s = [sample.at_s for sample in samples]
    above.plot(at_s, [sample.lag for sample in samples], color="#1f5fa8", label="lag")
    above.plot(
        at_s,
        [sample.replicas * LAG_THRESHOLD for sample in samples],
        color="#888888",
        linestyle="--",
        linewidth=1,
        label=f"threshold, {LAG_THRESHOLD:,} for each pod",
    )
    above.set_ylabel("messages")
    above.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    below.step(
        at_s, [s.replicas for s in samples], where="post", color="#b34700", label="pods wanted"
    )
    below.step(
        at_s,
        [sample.processes for sample in samples],
        where="post",
        color="#2f7d32",
        linestyle=":",
        label="consumers running",
    )
    below.set_ylim(0, PARTITIONS + 1)
    below.axhline(PARTITIONS, color="#888888", linewidth=0.8)
    below.annotate("partitions", (at_s[0], PARTITIONS), ha="left", va="bottom", fontsize=8)
    below.set_ylabel("number")
    below.set_xlabel("seconds")
    for axes in (above, below):
        axes.axvspan(
            marks["load step begins"], marks["load step ends"], color="#f3e3c8", zorder=0,
            label=f"load {HIGH * RATE:,} instead of {LOW * RATE:,} messages/s",
        )  # fmt: skip
        axes.grid(visible=True, linewidth=0.3)
        axes.margins(x=0.01)
    above.legend(loc="upper right", fontsize=8)
    below.legend(*_without_span(below), loc="lower center", fontsize=8)
    figure.savefig(path, dpi=110)


def _without_span(axes: Any) -> tuple[list[Any], list[str]]:
    handles, labels = axes.get_legend_handles_labels()
    kept = [(h, label) for h, label in zip(handles, labels, strict=True) if "load" not in label]
    return [h for h, _ in kept], [label for _, label in kept]


def run_once(folder: Path, step_s: float, *, by_lateness: bool) -> list[str]:
    """The run; returns what is wrong with it."""
    broker = Broker(folder / "broker")
    prometheus = Prometheus(folder, [], "2s", job=RELEASE) if by_lateness else None
    with (
        ControlPlane(folder / "control-plane") as cluster,
        prometheus or nullcontext(),
    ):
        broker.start()
        try:
            start_keda(cluster)
            topics = TopicSet.create(broker.bootstrap, PARTITIONS)
            _install(cluster, topics, folder / "values.json", NAMESPACE, prometheus)
            with Kubelets(cluster, folder, prometheus) as kubelets:
                run = Run(cluster, topics, kubelets)
                try:
                    _follow_load(run, step_s, prometheus)
                    topics.wait_consumed()
                    if prometheus is None:
                        _lose_sight(run, cluster, topics, folder)
                finally:
                    name = "autoscaling-lateness" if by_lateness else "autoscaling"
                    run.write(BUILD / f"{name}.json")
                cluster.helm("uninstall", RELEASE, f"--namespace={NAMESPACE}", "--wait")
                wait_until("the end of all consumers", lambda: kubelets.is_idle)
            events = topics.read_events()
            run.note(f"{len(events):,} steps published")
        finally:
            broker.kill()
    if not by_lateness:
        draw(run.samples, run.marks, BUILD / "autoscaling.png")
    return check(run) + check_results(events, kubelets.exit_codes)


def _install(
    cluster: ControlPlane,
    topics: TopicSet,
    values: Path,
    namespace: str,
    prometheus: Prometheus | None = None,
) -> None:
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": namespace, "labels": label}
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    names = {
        "readings": [topics.readings],
        "events": topics.events,
        "dead_letters": topics.dead_letters,
        "state": topics.state,
    }
    settings = {
        "kafka": {"bootstrap_servers": topics.bootstrap, "group_id": topics.group},
        "topics": {**names, **VALUES["settings"]["topics"]},
        "processing": VALUES["settings"]["processing"],
    }
    autoscaling = VALUES["autoscaling"]
    if prometheus:
        lateness = {
            "serverAddress": f"http://{prometheus.address}",
            "thresholdSeconds": TOLERABLE_DELAY_S,
        }
        keda = {**autoscaling["keda"], "lagThreshold": NEVER, "lateness": lateness}
        # Until the first pod was scraped, nothing is known, which is what the fallback is for.
        del keda["fallback"]
        autoscaling = {**autoscaling, "keda": keda}
    values.write_text(json.dumps({"settings": settings, "autoscaling": autoscaling}))
    cluster.helm("install", RELEASE, str(CHART), f"--namespace={namespace}", f"--values={values}",
                 "--wait", "--timeout=60s")  # fmt: skip
    scaler = f"apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{NAME}"
    cluster.wait("an autoscaler", lambda: cluster.api.get(scaler), "keda-operator")


def _follow_load(run: Run, step_s: float, prometheus: Prometheus | None) -> None:
    with run.load(LOW):
        wait_until("a first commit", run.has_begun)
        run.note("the first pod has begun")
        run.watch(BEFORE_S)
    with run.load(HIGH):
        run.note("load step begins")
        run.watch(step_s)
    with run.load(LOW):
        run.note("load step ends")
        if prometheus:
            prometheus.stop()
            run.watch(CALM_S + 2 * DOWN_PERIOD_S)
            prometheus.start()
            run.note("Prometheus answers again")
        run.watch_until(1)
        run.note("one pod again")
        run.watch(DOWN_PERIOD_S)


def _lose_sight(run: Run, cluster: ControlPlane, topics: TopicSet, folder: Path) -> None:
    """A release whose lag can't be read, because the topic is missing: the fallback works."""
    unseen = replace(topics, readings="unseen", group="unseen")
    _install(cluster, unseen, folder / "unseen.json", BLIND)
    path = f"apis/keda.sh/v1alpha1/namespaces/{BLIND}/scaledobjects/{NAME}"

    def has_fallen_back() -> bool:
        conditions = cluster.api.get(path)["status"]["conditions"]
        return any((c["type"], c["status"]) == ("Fallback", "True") for c in conditions)

    def replicas() -> int:
        path = f"apis/apps/v1/namespaces/{BLIND}/statefulsets/{NAME}"
        return int(cluster.api.get(path)["spec"]["replicas"])

    wait_until("the fallback", lambda: has_fallen_back() and replicas() == FALLBACK, DEADLINE_S)
    run.note(f"another release, whose lag can't be read: {FALLBACK} pods by fallback")


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


def main() -> int:
    """Run once, or draw the last run again."""
    parser = argparse.ArgumentParser(description="Consumers follow a step of the load.")
    parser.add_argument("--keep", type=Path, help="folder for logs, which is kept")
    parser.add_argument("--step-s", type=float, default=STEP_S, help="how long the load is high")
    parser.add_argument(
        "--lateness", action="store_true", help="by the lateness that Prometheus knows, not by lag"
    )
    options = parser.parse_args()
    keep: Path | None = options.keep
    absent = missing_parts(by_lateness=options.lateness)
    if absent:
        _print_all([f"missing: {', '.join(absent)} (make tools puts them into {cache_folder()})"])
        return 1
    with tempfile.TemporaryDirectory() as made:
        folder = keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        wrong = run_once(folder, options.step_s, by_lateness=options.lateness)
    _print_all([f"WRONG: {what}" for what in wrong] or ["pods followed the load"])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
