"""A group of consumers under faults while devices walk, and what became of every step."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from itertools import count
from random import Random
from subprocess import SubprocessError
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import KafkaException

from benchmarks.faults import Stage, schedule
from benchmarks.group import Group, Site
from benchmarks.lateness import Lateness, Mark, Window, by_fault, measure, summary
from stepstream.errors import StreamError
from stepstream.settings import KafkaSettings
from stepstream.simulation.fleet import Device, messages
from stepstream.simulation.simulator import Sent, begin_epoch, send
from stepstream.simulation.walkers import Walker
from stepstream.streaming.partitioning import partition_of
from stepstream.streaming.publisher import Publisher
from tests.kafka.builders import TopicSet
from tests.kafka.expected import difference, expected_steps
from tests.kafka.played import by_device

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from benchmarks.variants import Variant

__all__ = ["Outcome", "Plan", "run_trial"]

RATE_HZ = 80.0
BATCH = 8
"""Readings a message."""
WARM_UP_S = 8.0
"""From the first reading to the first fault: everybody walks, and steps are published."""
STARTED_S = 120.0
END_S = 180.0
"""Longest time until everything is committed after the last fault."""
FLUSH_S = 60.0
SIMULATED_S = 86_400.0
"""More than any run takes."""
SILENT = {"log_level": 0}
"""For clients of the benchmark's own: that the broker is away is no news."""
QUICK_TO_RETURN = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500}
"""Whoever sends must not be late itself after the broker was away."""
FAILURES = (AssertionError, RuntimeError, OSError, SubprocessError, KafkaException, StreamError)
"""What a run may end with; others go on."""


@dataclass(frozen=True)
class Plan:
    """What runs, and what happens to it.

    Attributes
    ----------
    kinds
        Names of faults; each happens once.
    every_s
        Time from a fault to the next, and from the last to the end.
    consumers, partitions, devices
        How many.
    speed
        Times real time at which devices walk.
    """

    kinds: tuple[str, ...]
    every_s: float = 20.0
    consumers: int = 3
    partitions: int = 6
    devices: int = 18
    speed: float = 1.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Of the consumers that are always there."""
        return tuple(f"consumer-{n}" for n in range(self.consumers))

    @property
    def spare(self) -> str:
        """The slot of one more."""
        return f"consumer-{self.consumers}"


@dataclass
class Outcome:
    """What became of a run.

    Attributes
    ----------
    seed
        Of schedule and devices.
    seen
        The lateness of its events.
    faults
        Each fault by its figures.
    exits
        Consumers that ended otherwise than they should have.
    log
        What happened, in order, with seconds since the first reading.
    wrong
        What was lost, repeated or changed, or went wrong otherwise; empty if all is well.
    """

    seed: int
    seen: Lateness | None = None
    faults: list[Window] = field(default_factory=list)
    exits: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def to_save(self) -> dict[str, Any]:
        """It as JSON takes it."""
        seen = {**summary([self.seen]), "curve": self.seen.curve()} if self.seen else {"curve": []}
        return {
            "seed": self.seed,
            **seen,
            "faults": [asdict(fault) for fault in self.faults],
            "exits": self.exits,
            "log": self.log,
            "wrong": self.wrong,
        }


class Feed:
    """Devices that walk, and all that they have sent; each partition has as many of them."""

    def __init__(self, topics: TopicSet, plan: Plan, seed: int) -> None:
        random = Random(seed)  # noqa: S311 - it hides nothing
        self._devices = [
            Device(name, Walker(random.randrange(2**32), RATE_HZ)) for name in _names(plan)
        ]
        self._speed = plan.speed
        kafka = KafkaSettings(
            bootstrap_servers=topics.bootstrap, properties={**SILENT, **QUICK_TO_RETURN}
        )
        self._publisher = Publisher(kafka, topics.readings)
        self.sent: defaultdict[bytes, list[bytes]] = defaultdict(list)
        """Values by key."""
        self.failure: str | None = None
        self._stop = Event()
        self._thread = Thread(target=self._play, name="feed", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def send(self, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]] = ()) -> None:
        """Send a message, and keep it."""
        self.sent[key].append(value)
        self._publisher.send(key, value, headers)

    def poll(self) -> None:
        """Take notice of deliveries."""
        self._publisher.poll()

    def end(self) -> None:
        """Stop, and wait until everything is delivered."""
        self._stop.set()
        self._thread.join(FLUSH_S)
        if self._thread.is_alive():
            raise RuntimeError("the feed doesn't end")
        lost = self._publisher.flush(FLUSH_S)
        if lost or self.failure:
            raise RuntimeError(self.failure or f"{lost} readings were not delivered")

    def _play(self) -> None:
        seconds = 0.0 if self._speed <= 1 else SIMULATED_S
        epoch_s = begin_epoch(seconds, self._speed, time.time())
        stream = messages(self._devices, epoch_s, SIMULATED_S, batch=BATCH)
        try:
            send(stream, self, self._speed, self._stop, Sent())
        except StreamError as error:
            self.failure = f"the feed: {error}"


def _names(plan: Plan) -> list[str]:
    """Ids of devices that are spread evenly over the partitions."""
    most = -(-plan.devices // plan.partitions)
    taken: dict[int, int] = defaultdict(int)
    found: list[str] = []
    for name in map("walker-{}".format, count()):
        partition = partition_of(name.encode(), plan.partitions)
        if taken[partition] < most:
            taken[partition] += 1
            found.append(name)
        if len(found) == plan.devices:
            return found
    raise AssertionError("there is no end of names")


def run_trial(plan: Plan, variant: Variant, tree: Path, seed: int, folder: Path) -> Outcome:
    """Start a broker and consumers, let devices walk, do what the seed says, and judge.

    Parameters
    ----------
    plan, seed
        What happens; the same for all that is to be compared.
    variant, tree
        How consumers are set up, and the folder of their code.
    folder
        For the consumers' logs, and for what the broker holds if something went wrong; it doesn't
        exist yet.
    """
    folder.mkdir(parents=True)
    trial = _Trial(plan, variant, tree, seed, folder)
    try:
        trial.run()
    except FAILURES as error:
        trial.outcome.wrong.append(f"{type(error).__name__}: {error}")
    if not trial.outcome.wrong:
        shutil.rmtree(folder / "broker", ignore_errors=True)
    return trial.outcome


class _Trial:
    """A run; see `run_trial`."""

    def __init__(self, plan: Plan, variant: Variant, tree: Path, seed: int, folder: Path) -> None:
        self._plan = plan
        self._variant = variant
        self._tree = tree
        self._seed = seed
        self._folder = folder
        self._begin_s = time.time()
        self._marks: list[Mark] = []
        self.outcome = Outcome(seed)

    def run(self) -> None:
        plan = self._plan
        names = [*plan.slots, plan.spare]
        with Site(self._folder / "broker", names, self._variant.broker) as site:
            access = {"properties": SILENT}
            topics = TopicSet.create(site.broker.bootstrap, plan.partitions, access)
            topics.configure(topics.events, "message.timestamp.type", "LogAppendTime")
            with Group(site, topics, self._variant, self._tree, self._folder, self._note) as group:
                self.outcome.exits = group.exits
                self._start(group)
                with Feed(topics, plan, self._seed) as feed:
                    self._begin_s = time.time()
                    self._disturb(
                        Stage(site, group, plan.slots, plan.spare, plan.every_s, self._mark)
                    )
                    self._end(site, group, feed, topics)
            self._judge(topics, feed.sent)

    def _start(self, group: Group) -> None:
        for slot in self._plan.slots:
            group.start(slot)
        are_ready = group.wait_for(
            "all are ready", lambda: all(map(group.is_ready, self._plan.slots)), STARTED_S
        )
        if not are_ready:
            raise RuntimeError(f"not all consumers were ready after {STARTED_S:.0f} s")

    def _disturb(self, stage: Stage) -> None:
        """Let faults happen one after the other; the next may have to wait until one is over."""
        due_s = time.monotonic() + WARM_UP_S
        for fault in schedule(self._seed, self._plan.kinds):
            stage.group.pause(due_s - time.monotonic())
            due_s = time.monotonic() + stage.every_s
            fault.happen(stage)
        stage.group.pause(due_s - time.monotonic())
        self._mark("end", "")

    def _end(self, site: Site, group: Group, feed: Feed, topics: TopicSet) -> None:
        """Wait until all is committed, and end the consumers."""
        feed.end()
        site.heal()
        ends = {p: e for p, e in topics.end_offsets(topics.readings).items() if e}

        def are_committed() -> bool:
            committed = topics.committed()
            return all(committed.get(p, 0) >= end for p, end in ends.items())

        if not group.wait_for("all readings are committed", are_committed, END_S):
            self.outcome.wrong.append(
                f"not all readings after {END_S:.0f} s: {topics.committed()} of {ends}"
            )
        self._note("all is committed")
        for slot in self._plan.slots:
            group.ask_to_end(slot)
        group.wait_for_leavers()
        self._note("consumers ended")

    def _judge(self, topics: TopicSet, sent: Mapping[bytes, list[bytes]]) -> None:
        outcome = self.outcome
        outcome.seen, events = measure(topics, self._begin_s)
        outcome.faults = by_fault(outcome.seen, self._marks)
        ids = {event["event_id"] for event in events}
        if len(ids) < len(events):
            outcome.wrong.append(f"{len(events) - len(ids)} event ids came twice")
        expected, found = expected_steps(sent), by_device(events)
        outcome.wrong += [
            f"{device}: {difference(expected.get(device, []), found.get(device, []))}"
            for device in sorted(expected.keys() | found.keys())
            if expected.get(device) != found.get(device)
        ]

    def _mark(self, kind: str, what: str) -> None:
        self._marks.append(Mark(time.time() - self._begin_s, kind, what))
        self._note(f"{kind} {what}".rstrip())

    def _note(self, what: str) -> None:
        self.outcome.log.append(f"{time.time() - self._begin_s:7.2f} s  {what}")
