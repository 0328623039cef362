"""The whole product in one process: mock broker, simulated walkers, consumer, subscriber."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from confluent_kafka import OFFSET_BEGINNING, Producer, TopicPartition
from confluent_kafka import Consumer as KafkaConsumer
from rich.live import Live

from stepstream.errors import StreamError
from stepstream.outputs import Event as StepEvent
from stepstream.settings import (
    KafkaSettings,
    OutputSettings,
    ProcessingSettings,
    Settings,
    TopicSettings,
)
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.simulator import Sent, begin_epoch, send
from stepstream.simulation.view import DeviceRow, Snapshot, render, render_line
from stepstream.simulation.walkers import Walker
from stepstream.streaming.cluster import Cluster, TopicIdentity
from stepstream.streaming.connections import Connections
from stepstream.streaming.consumer import Consumer
from stepstream.streaming.publisher import Publisher
from stepstream.web.app import make_app
from stepstream.web.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray
    from rich.console import Console

    from stepstream.settings import HttpSettings, ModelSettings

__all__ = ["MOCK_PROPERTIES", "DemoResult", "MockConnections", "Walkers", "run_demo"]

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 20.0
FIRST_STEP_S = 0.1
"""Earliest start of a step that can be found: a window begins with its first whole hop."""
LOOK_AHEAD_S = 0.6
"""Readings that are needed after a step's end to find the step."""
MOCK_PROPERTIES = {"fetch.wait.max.ms": 10, "enable.sparse.connections": True}
"""The mock broker holds a fetch for its whole time, even if messages arrive before. And it ends
before its clients, which then must not try to connect again."""
PARTITIONS = 4
"""Partitions of every topic of the mock broker, which creates topics itself."""
WALK_GAP_S, GRACE_S = 3.0, 2.0
"""Walkers stand for 1.5 to 12 s: so a short demo has walks that are over."""
SHOWN = 8
SPARK_RATE_HZ = 16


class _Watched:
    """A walker whose last accelerations are kept, to be drawn."""

    def __init__(self, walker: Walker, rate_hz: float) -> None:
        self.walker = walker
        self._every = max(1, round(rate_hz / SPARK_RATE_HZ))
        self.signal: deque[tuple[float, float]] = deque(maxlen=160)

    def read(self, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        time_s, axes = self.walker.read(until_s)
        size = np.linalg.norm(axes[:: self._every, :3], axis=1)
        self.signal.extend(zip(time_s[:: self._every].tolist(), size.tolist(), strict=True))
        return time_s, axes


class MockCluster(Cluster):
    """The mock broker knows no topic ids, no topic settings and no rights."""

    def check_access(self) -> list[str]:
        return []

    def check_topics(self) -> list[str]:
        return []

    def identify_topics(self, topics: Iterable[str]) -> dict[str, TopicIdentity]:
        return {topic: TopicIdentity("", PARTITIONS) for topic in topics}


class MockConnections(Connections):
    """Clients of the mock broker."""

    def cluster(self) -> Cluster:
        return MockCluster(self._settings)

    def find_times(
        self, consumer: KafkaConsumer, partitions: list[tuple[str, int]], _ms: int, timeout_s: float
    ) -> list[TopicPartition]:
        # The mock broker knows no times; what is older is not shown.
        return super().find_times(consumer, partitions, OFFSET_BEGINNING, timeout_s)


class _Subscriber:
    """Reads the events as a downstream service does."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = KafkaConsumer(
            {
                "bootstrap.servers": settings.kafka.bootstrap_servers,
                "group.id": "demo-subscriber",
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                **MOCK_PROPERTIES,
            },
            logger=logger,
        )
        self._consumer.subscribe([settings.topics.events])
        self._decode = msgspec.json.Decoder(StepEvent).decode
        self.steps: Counter[str] = Counter()
        self.delays_s: deque[float] = deque(maxlen=2000)

    def run(self, stop: Event) -> None:
        while not stop.is_set():
            for message in self._consumer.consume(1000, 0.05):
                if message.error() is None:
                    event = self._decode(message.value() or b"")
                    self.steps[event.device_id] += 1
                    self.delays_s.append(time.time() - event.ended_at)
        self._consumer.close()


@dataclass(frozen=True)
class DemoResult:
    """The result of a demo.

    Attributes
    ----------
    true_steps
        Steps that can be found, without those of the first and last moments.
    found_steps
        Events that arrived.
    snapshot
        The last view.
    """

    true_steps: int
    found_steps: int
    snapshot: Snapshot

    @property
    def deviation(self) -> float:
        """Difference between found and true steps, as a share of the true ones."""
        return abs(self.found_steps - self.true_steps) / max(1, self.true_steps)


@dataclass(frozen=True)
class Walkers:
    """Who walks in a demo.

    Attributes
    ----------
    devices, rate_hz
        Walkers, and the readings a second of each.
    seconds
        For how long; until interrupted if None.
    seed
        Seed of everything random.
    """

    devices: int
    rate_hz: float
    seconds: float | None
    seed: int


class _Demo:
    def __init__(self, walkers: Walkers, model: ModelSettings, http: HttpSettings) -> None:
        self._seconds = walkers.seconds
        # The broker lives as long as this handle.
        self._mock = Producer({"test.mock.num.brokers": 1}, logger=logger)
        self._settings = Settings(
            kafka=KafkaSettings(
                bootstrap_servers=self._bootstrap(), group_id="demo", properties=MOCK_PROPERTIES
            ),
            topics=TopicSettings(minutes="step-minutes", walks="step-walks"),
            output=OutputSettings(walk_gap_s=WALK_GAP_S, grace_s=GRACE_S),
            processing=ProcessingSettings(guarantee="at_least_once"),
            model=model,
            http=http,
        )
        topics = self._settings.topics
        for topic in (*topics.readings, *topics.written):
            self._mock.list_topics(topic, timeout=START_TIMEOUT_S)
        places = ("hand", "hand", "armband", "pocket")
        self._walkers = {
            f"walker-{n + 1}": _Watched(
                Walker(walkers.seed * 1_000_003 + n, walkers.rate_hz, places[n % 4]),
                walkers.rate_hz,
            )
            for n in range(walkers.devices)
        }
        self._stop_sending = Event()
        self._stop = Event()
        self._failure: BaseException | None = None
        self._consumer = Consumer(self._settings, connections=MockConnections(self._settings))
        self._server = Server(self._settings.http, make_app(self._settings, self._consumer))
        self._subscriber = _Subscriber(self._settings)
        self._publisher = Publisher(self._settings.kafka, self._settings.topics.readings[0])
        self._sent = Sent()
        self._begin_s = time.monotonic()
        self._last = (self._begin_s, 0)
        self._rate = 0.0

    def _bootstrap(self) -> str:
        brokers = self._mock.list_topics(timeout=START_TIMEOUT_S).brokers.values()
        return ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def run(self, console: Console) -> DemoResult:
        with self._server:
            if self._server.port:
                http = self._settings.http
                url = f"{http.scheme}://{http.address}:{self._server.port}/performance"
                console.print(f"live page: {url}", highlight=False, soft_wrap=True)
            broker = self._settings.kafka.bootstrap_servers
            command = f"{_program()} tail --kafka.bootstrap-servers {broker}"
            console.print(f"steps, in another terminal: {command}", highlight=False, soft_wrap=True)
            return self._run(console)

    def _run(self, console: Console) -> DemoResult:
        threads = [
            self._thread("consumer", self._consumer.run),
            self._thread("subscriber", lambda: self._subscriber.run(self._stop)),
        ]
        try:
            self._wait(lambda: self._consumer.health.is_ready, START_TIMEOUT_S, "the consumer")
            self._begin_s = time.monotonic()
            self._last = (self._begin_s, 0)
            sending = self._thread("simulator", self._simulate)
            self._watch(console, sending)
            self._stop_sending.set()
            sending.join()
            self._publisher.flush(DRAIN_TIMEOUT_S)
            self._wait(self._is_drained, DRAIN_TIMEOUT_S, "the last events")
        finally:
            self._stop_sending.set()
            self._consumer.stop()
            self._stop.set()
            for thread in threads:
                thread.join(DRAIN_TIMEOUT_S)
        shot = self._snapshot()
        until_s = self._sent.simulated_s - LOOK_AHEAD_S
        true_steps = sum(
            start_s >= FIRST_STEP_S
            for watched in self._walkers.values()
            for start_s, _ in watched.walker.steps_until(until_s)
        )
        return DemoResult(true_steps, sum(self._subscriber.steps.values()), shot)

    def _simulate(self) -> None:
        fleet = [Device(name, watched) for name, watched in self._walkers.items()]
        stream = messages(fleet, begin_epoch(0, 1, time.time()), self._seconds or 1e9)
        send(stream, self._publisher, 1, self._stop_sending, self._sent)

    def _thread(self, name: str, work: Callable[[], object]) -> Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                self._failure = error

        thread = Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._raise_failure()
            if time.monotonic() > deadline_s:
                raise StreamError(f"{what} didn't come within {timeout_s:.0f} s")
            time.sleep(0.02)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _is_drained(self) -> bool:
        totals = self._consumer.totals
        return (
            totals.messages >= self._sent.messages
            and self._consumer.commits.is_settled
            and sum(self._subscriber.steps.values()) >= totals.events
        )

    def _watch(self, console: Console, sending: Thread) -> None:
        """Show the view until sending ends or somebody interrupts it."""
        try:
            if console.is_terminal:
                with Live(console=console, refresh_per_second=8, screen=False) as live:
                    while sending.is_alive():
                        self._raise_failure()
                        live.update(render(self._snapshot()))
                        sending.join(0.12)
                    live.update(render(self._snapshot()))
            else:
                while sending.is_alive():
                    self._raise_failure()
                    console.print(render_line(self._snapshot()), highlight=False, soft_wrap=True)
                    sending.join(2)
        except KeyboardInterrupt:
            self._stop_sending.set()

    def _snapshot(self) -> Snapshot:
        now_s = time.monotonic()
        readings = self._consumer.totals.readings
        last_s, last_readings = self._last
        if now_s - last_s >= 1:
            self._rate = (readings - last_readings) / (now_s - last_s)
            self._last = (now_s, readings)
        simulated_s = self._sent.simulated_s
        steps = self._subscriber.steps
        rows = []
        true_steps = 0
        for n, (name, watched) in enumerate(self._walkers.items()):
            true = len(watched.walker.steps_until(simulated_s))
            true_steps += true
            if n < SHOWN:
                signal = [size for at, size in list(watched.signal) if at <= simulated_s]
                rows.append(DeviceRow(name, signal[-64:], true, steps[name]))
        delays_s = np.array(self._subscriber.delays_s)
        p50, p99 = np.percentile(delays_s, [50, 99]).tolist() if len(delays_s) else (None, None)
        return Snapshot(
            elapsed_s=now_s - self._begin_s,
            seconds=self._seconds,
            model=self._consumer.model.metadata.label,
            devices=len(self._walkers),
            readings=readings,
            readings_per_s=self._rate,
            messages=self._consumer.totals.messages,
            events=sum(steps.values()),
            dead_letters=self._consumer.totals.dead_letters.total(),
            true_steps=true_steps,
            found_steps=sum(steps.values()),
            delay_p50_s=p50,
            delay_p99_s=p99,
            rows=rows,
        )


def _program() -> str:
    """How this program is called from any folder."""
    if shutil.which("stepstream"):
        return "stepstream"
    return f"{shlex.quote(sys.executable)} -m stepstream"


def run_demo(
    console: Console, walkers: Walkers, model: ModelSettings, http: HttpSettings
) -> DemoResult:
    """Simulated walkers through the real consumer, over librdkafka's own mock broker.

    Parameters
    ----------
    console
        Where the view is shown: drawn on a terminal, otherwise a line from time to time.
    walkers
        Who walks, and for how long.
    model
        The network.
    http
        Where the live page is served.
    """
    return _Demo(walkers, model, http).run(console)
