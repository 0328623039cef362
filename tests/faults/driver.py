"""Rounds of faults: real consumers on a real broker, and the events that they must publish.

A round's settings, input and faults follow from its seed. The time of a fault also depends on
the machine, so a round that failed may have to be repeated a few times before it fails again.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter, defaultdict, deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, ClassVar

from stepstream.inputs import MessageWriter
from stepstream.recordings import read_recording
from stepstream.settings import InputSettings
from stepstream.simulation.fleet import Device, Message, Player, messages
from stepstream.simulation.simulator import Sent, begin_epoch, send
from stepstream.simulation.walkers import Walker
from stepstream.streaming.publisher import Publisher
from tests.conftest import ROOT
from tests.faults.avro import RegistryTroubles, UpdatedDevices
from tests.faults.consumer import POINTS
from tests.faults.proxy import Proxy
from tests.faults.two_models import TwoModels
from tests.kafka.broker import Access, Broker, free_port
from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.expected import difference, expected_steps
from tests.kafka.played import by_device
from tests.kafka.registry import SchemaRegistry, url_at
from tests.outputs.published import Published

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from tests.kafka.played import Step

WALKERS = 16
RATE_HZ = 80
SIMULATED_S = 72.0
SPEED = 6.0
BATCH = 8
RUBBISH = 0.01
REPEATED = 0.03
"""Shares of messages that are added to the input: invalid ones, and repeated ones."""
SPLIT = 0.25
"""Share of rounds in which the sensors of all devices send apart."""
AVRO = 0.25
"""Share of the others in which messages are in Avro, with a schema registry."""
SENSOR = {"path": "sensor", "accelerometer": "accelerometer", "gyroscope": "gyroscope"}
SPLIT_BY = "STEPSTREAM_INPUT__SENSOR"
FORMAT = "STEPSTREAM_INPUT__FORMAT"
CONSUMERS = 4
"""Most of them at a time."""
PARENTS = 0.2
"""Share of consumers that run as two workers."""
TRAPPED = 0.5
"""Share of the others that have a trap."""
FROZEN_S = (0.3, 4.5)
END_S = 60.0
"""Longest time until everything is committed after the last fault."""
TURN_S = 0.02
RESTART_S = 0.3

PROPERTIES = """
inter.broker.listener.name=DIRECT
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=2000
group.consumer.min.heartbeat.interval.ms=200
group.consumer.heartbeat.interval.ms=500
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
"""
CLASSIC = {"session.timeout.ms": 2_000}
"""Short enough that the group removes a frozen consumer within a round, with both protocols."""


class Site:
    """A broker, and the proxy through which consumers reach it."""

    def __init__(self, folder: Path) -> None:
        self.proxied = f"127.0.0.1:{free_port()}"
        access = Access(
            {"DIRECT": "PLAINTEXT", "PROXIED": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"},
            PROPERTIES,
            advertised={"PROXIED": self.proxied},
        )
        self.broker = Broker(folder, access)
        self.proxy = Proxy(self.proxied, self.broker.addresses["PROXIED"])

        self._folder = folder
        self._registry = ExitStack()

    @cached_property
    def registry(self) -> tuple[SchemaRegistry, Proxy, str]:
        """A schema registry, a proxy before it, and its address there; started when needed."""
        registry = self._registry.enter_context(SchemaRegistry(self._folder))
        proxied = f"127.0.0.1:{free_port()}"
        proxy = self._registry.enter_context(Proxy(proxied, registry.address))
        return registry, proxy, url_at(proxied)

    def __enter__(self) -> Self:
        self.broker.start()
        self.proxy.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.close()
        self.proxy.__exit__()
        self.broker.kill()


class Feed:
    """Walkers, and recordings if there are any, with invalid and repeated messages among them.

    Parameters
    ----------
    random
        Chooses them.
    recordings
        Played beside the walkers.
    epoch_s
        Seconds since the epoch at its beginning.
    writer
        Writes the messages; None for the plain form.
    is_json
        Whether they are in JSON.
    """

    def __init__(
        self,
        random: Random,
        recordings: list[Path],
        epoch_s: int,
        writer: MessageWriter | None,
        *,
        is_json: bool = True,
    ) -> None:
        self._seeds = [random.randrange(2**32) for _ in range(WALKERS)]
        self._recordings = recordings
        self._epoch_s = epoch_s
        self._sent: list[Message] = []
        self.genuine: defaultdict[bytes, list[bytes]] = defaultdict(list)
        """What each device sends, in JSON."""
        self.invalid = 0
        in_json = None if is_json else self._messages(None)
        recent: defaultdict[bytes, deque[bytes]] = defaultdict(partial(deque, maxlen=5))
        for message in self._messages(writer):
            self.genuine[message.key].append((next(in_json) if in_json else message).value)
            values = recent[message.key]
            values.append(message.value)
            self._sent.append(message)
            if random.random() < REPEATED:
                self._sent.append(message._replace(value=random.choice(values)))
            if random.random() < RUBBISH:
                self._sent.append(message._replace(value=b'{"timestamp": '))
                self.invalid += 1

    def _messages(self, writer: MessageWriter | None) -> Iterator[Message]:
        fleet = [Device(f"walker-{n}", Walker(s, RATE_HZ)) for n, s in enumerate(self._seeds)]
        for path in self._recordings:
            recording = read_recording(path, RATE_HZ)
            fleet.append(Device(recording.device_id, Player(recording)))
        return messages(
            fleet, self._epoch_s, SIMULATED_S, batch=BATCH, decimals=None, writer=writer
        )

    def play(self, topics: TopicSet) -> None:
        """Send everything in its time."""
        publisher = Publisher(topics.settings().kafka, topics.readings)
        send(self._sent, publisher, SPEED, Event(), Sent())
        lost = publisher.flush(60)
        if lost:
            raise RuntimeError(f"{lost} messages were not delivered")

    def expected(self) -> dict[str, list[Step]]:
        """What `detect` finds in it."""
        return expected_steps(self.genuine)

    def expected_of_two(self, other: Path) -> TwoModels:
        """What `detect` finds in it with the usual model and with another one."""
        both: tuple[Path | None, ...] = (None, other)
        return TwoModels(
            [expected_steps(self.genuine, path) for path in both],
            [expected_steps(self.genuine, path, every=True) for path in both],
        )


class Consumer(RunProcess):
    """A consumer that may be frozen and may have a trap; or the parent of two, without traps."""

    program: ClassVar[tuple[str, ...]] = ("tests.faults.consumer",)
    thaw_s: float | None = None

    @property
    def processes(self) -> list[int]:
        """Process ids of it and its workers."""
        try:
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        except OSError:
            return [self.pid]
        return [self.pid, *map(int, children.split())]


@dataclass
class Report:
    """The result of a round.

    Attributes
    ----------
    seed, setting
        What it was made from.
    injected
        Everything that was done to it, by kind.
    log
        The same in order, with seconds since its beginning.
    exits
        Consumers that ended by themselves, by their last line.
    events
        Events that were published.
    outputs
        Minutes, walks and counts that were published.
    wrong
        What is wrong; empty if nothing is.
    """

    seed: int
    setting: dict[str, str]
    injected: Counter[str] = field(default_factory=Counter)
    log: list[str] = field(default_factory=list)
    exits: Counter[str] = field(default_factory=Counter)
    events: int = 0
    outputs: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.setting}", *self.log, *self.exits, *self.wrong]
        return "\n".join(lines)


class Round:
    """One round.

    Parameters
    ----------
    site
        Broker and proxy.
    seed
        Of everything.
    folder
        For the consumers' logs.
    recordings
        Played beside the walkers.
    fixed
        Environment variables of all consumers; over what the seed says.
    older
        Checkout of an earlier release, which half of the consumers run: upgrades and rollbacks.
    other_model
        Model file of half of the consumers: a rolling change of the model, there and back.
    """

    def __init__(  # noqa: PLR0913 - what a round is made of
        self,
        site: Site,
        seed: int,
        folder: Path,
        recordings: list[Path],
        fixed: dict[str, str] | None = None,
        older: Path | None = None,
        *,
        other_model: Path | None = None,
    ) -> None:
        self._site = site
        self.seed = seed
        self._random = Random(seed)  # noqa: S311 - it hides nothing
        self._folder = folder / f"seed-{seed}"
        self._folder.mkdir(parents=True)
        self._recordings = recordings
        self._older = older
        self._other_model = other_model
        self._setting = self._choose_setting(fixed or {})
        self._is_avro = self._setting.get(FORMAT) == "avro"
        self._troubles: RegistryTroubles | None = None
        if self._is_avro:
            _, proxy, url = site.registry
            self._setting["STEPSTREAM_REGISTRY__URL"] = url
            span_s = SIMULATED_S / SPEED
            self._troubles = RegistryTroubles(proxy, Random(f"{seed} registry"), span_s)  # noqa: S311
        self.report = Report(seed, self._setting)
        # Earlier releases don't know minutes, walks and counts.
        self._topics = TopicSet.create(site.broker.bootstrap, all_outputs=older is None)
        self._consumers: list[Consumer] = []
        self._restarts: list[float] = []
        self._names = 0
        self._begin_s = 0.0
        self._until: list[tuple[float, Callable[[], None]]] = []
        self._trapping = True
        self._models: TwoModels | None = None

    @property
    def _is_exactly_once(self) -> bool:
        return self._setting.get("STEPSTREAM_PROCESSING__GUARANTEE") != "at_least_once"

    def _choose_setting(self, fixed: dict[str, str]) -> dict[str, str]:
        random = self._random
        protocol = random.choice(["classic", "consumer"])
        interval = random.choice(["20", "500"])
        setting = {
            "STEPSTREAM_KAFKA__GROUP_PROTOCOL": protocol,
            "STEPSTREAM_KAFKA__TRANSACTION_TIMEOUT_MS": "3000",
            "STEPSTREAM_PROCESSING__COMMIT_INTERVAL_MS": interval,
            "STEPSTREAM_PROCESSING__OUTPUT_INTERVAL_MS": interval,
            "STEPSTREAM_PROCESSING__IDLE_TIMEOUT_S": "120",
        }
        properties = CLASSIC if protocol == "classic" else {}
        debug = {"debug": os.environ["FAULT_DEBUG"]} if "FAULT_DEBUG" in os.environ else {}
        setting["STEPSTREAM_KAFKA__PROPERTIES"] = json.dumps(properties | debug)
        if random.random() < 0.15:
            setting["STEPSTREAM_PROCESSING__GUARANTEE"] = "at_least_once"
        # Earlier releases don't know messages of one sensor.
        if random.random() < SPLIT and self._older is None:
            setting[SPLIT_BY] = json.dumps(SENSOR)
        # From a number of its own: what else a seed decides stays the same.
        elif Random(f"{self.seed} avro").random() < AVRO and self._older is None:  # noqa: S311
            setting[FORMAT] = "avro"
        if self._older is None:
            setting["STEPSTREAM_OUTPUT__WALK_GAP_S"] = random.choice(["0.5", "2", "10"])
            setting["STEPSTREAM_OUTPUT__GRACE_S"] = random.choice(["0", "1", "30"])
        setting |= fixed
        if FORMAT in setting and SPLIT_BY in setting:
            del setting[SPLIT_BY if FORMAT in fixed else FORMAT]
        return setting

    def _writer(self, epoch_s: int) -> MessageWriter | None:
        if self._is_avro:
            registry, _, _ = self._site.registry
            change_us = [round((epoch_s + SIMULATED_S * part / 3) * 1e6) for part in (1, 2)]
            return UpdatedDevices(self._folder, registry.url, self._topics.readings, change_us)
        if SPLIT_BY not in self._setting:
            return None
        return MessageWriter(InputSettings(sensor=json.loads(self._setting[SPLIT_BY])))

    def run(self) -> Report:
        """Play, disturb, wait for the end, compare."""
        # Later than everything that happens before the first message is sent.
        epoch_s = int(begin_epoch(SIMULATED_S, SPEED, time.time()))
        feed = Feed(
            self._random,
            self._recordings,
            epoch_s,
            self._writer(epoch_s),
            is_json=not self._is_avro,
        )
        expected = feed.expected()
        if self._other_model:
            self._models = feed.expected_of_two(self._other_model)
        self._begin_s = time.monotonic()
        try:
            for _ in range(2):
                self._start()
            self._disturb(feed)
            self._end()
        except (AssertionError, RuntimeError) as error:
            self.report.wrong.append(f"{type(error).__name__}: {error}")
        finally:
            self._site.proxy.restore()
            if self._troubles is not None:
                self._troubles.end()
            for consumer in self._consumers:
                consumer.__exit__()
        if not self.report.wrong:
            self._compare(expected, feed.invalid)
        self._topics.delete()
        return self.report

    def _disturb(self, feed: Feed) -> None:
        failures: list[BaseException] = []

        def play() -> None:
            try:
                feed.play(self._topics)
            except RuntimeError as error:
                failures.append(error)

        playing = Thread(target=play, name="feed", daemon=True)
        playing.start()
        span_s = SIMULATED_S / SPEED
        count = self._random.randint(3, 7)
        moments = sorted(self._random.uniform(0.5, span_s) for _ in range(count))
        faults = self._random.choices([*FAULTS], [weight for weight, _ in FAULTS.values()], k=count)
        begin_s = time.monotonic()
        while playing.is_alive() or moments:
            self._turn()
            if self._troubles is not None:
                begun = self._troubles.turn(time.monotonic() - begin_s)
                if begun:
                    self._inject(begun)
            if moments and time.monotonic() >= begin_s + moments[0]:
                moments.pop(0)
                FAULTS[faults[0]][1](self)
                faults.pop(0)
            time.sleep(TURN_S)
        if failures:
            raise failures[0]

    def _end(self) -> None:
        """End all faults, wait until everything is committed, and stop the consumers."""
        self._trapping = False
        for _, undo in self._until:
            undo()
        self._until = []
        self._site.proxy.restore()
        if self._troubles is not None:
            self._troubles.end()
        self._note("end of the input")
        ends = {p: e for p, e in self._topics.end_offsets(self._topics.readings).items() if e}
        deadline_s = time.monotonic() + END_S
        while not all(self._topics.committed().get(p, 0) >= end for p, end in ends.items()):
            self._turn()
            if len(self._consumers) + len(self._restarts) < 2:
                self._start()
            if time.monotonic() > deadline_s:
                self._show_stacks()
                committed = self._topics.committed()
                raise AssertionError(f"not all after {END_S:.0f} s: {committed} of {ends}")
        self._note("all is committed")
        self._stop()
        self._note("consumers ended")

    def _stop(self) -> None:
        while any(c.is_alive and c.is_stopped for c in self._consumers):
            self._turn()
        for consumer in self._consumers:
            if consumer.is_alive:
                consumer.send(signal.SIGTERM)
        try:
            wait_until("consumers ended", self._have_ended, END_S)
        except AssertionError:
            self._show_stacks()
            raise
        for consumer in self._consumers:
            code = consumer.terminate()
            if code not in {0, -signal.SIGKILL}:
                self._note_exit(consumer, code)

    def _have_ended(self) -> bool:
        """Whether all have ended; consumers that a trap froze while they stop are resumed."""
        going = [consumer for consumer in self._consumers if consumer.exit_code is None]
        for consumer in going:
            if consumer.is_stopped:
                consumer.send(signal.SIGCONT)
        return not going

    def _show_stacks(self) -> None:
        """Into the consumers' logs."""
        for consumer in self._consumers:
            if consumer.is_alive:
                consumer.send(signal.SIGUSR2)
                consumer.send(signal.SIGUSR1)
                consumer.wait_for_log("Current thread")

    def _compare(self, expected: dict[str, list[Step]], invalid: int) -> None:
        events = self._topics.read_events()
        letters = self._topics.read(self._topics.dead_letters)
        self.report.events = len(events)
        ids = [event["event_id"] for event in events]
        dead_letters = Counter(
            (headers["stepstream-partition"], headers["stepstream-offset"])
            for headers in (dict(letter.headers() or []) for letter in letters)
        )
        if not self._is_exactly_once:
            unique = {event["event_id"]: event for event in events}
            events = sorted(unique.values(), key=lambda event: event["step_count"])
            ids = [*unique]
            dead_letters = Counter(dict.fromkeys(dead_letters, 1))
        wrong = self.report.wrong
        if len(set(ids)) < len(ids):
            wrong.append(f"{len(ids) - len(set(ids))} event ids came twice")
        if max(dead_letters.values(), default=1) > 1 or len(dead_letters) != invalid:
            wrong.append(
                f"{invalid} messages are invalid, there are {dead_letters.total()} dead letters of "
                f"{len(dead_letters)} messages"
            )
        found = by_device(events)
        if self._models is not None:
            for device in sorted(expected.keys() | found.keys()):
                wrong += self._models.faults(device, found.get(device, []))
            self.report.injected["changes of a device's model"] = self._models.switches
            self.report.injected["steps missing near them"] = self._models.missing
        else:
            wrong += self._compare_steps(expected, found)
        if self._topics.outputs:
            wrong += self._compare_outputs(events)

    @staticmethod
    def _compare_steps(expected: dict[str, list[Step]], found: dict[str, list[Step]]) -> list[str]:
        return [
            f"{device}: {difference(expected.get(device, []), found.get(device, []))}"
            for device in sorted(expected.keys() | found.keys())
            if expected.get(device) != found.get(device)
        ]

    def _compare_outputs(self, events: list[dict[str, Any]]) -> list[str]:
        outputs = {
            kind: self._topics.read_values(name) for kind, name in self._topics.outputs.items()
        }
        if not self._is_exactly_once:
            for kind, values in outputs.items():
                unique = {json.dumps(value): value for value in values}
                outputs[kind] = list(unique.values())
            outputs["counts"].sort(key=lambda count: count["step_count"])
        for kind, values in outputs.items():
            self.report.outputs[kind] += len(values)
        gap_us = round(float(self._setting["STEPSTREAM_OUTPUT__WALK_GAP_S"]) * 1e6)
        return Published(events, outputs, gap_us).faults()

    def _turn(self) -> None:
        """Handle consumers that ended or were frozen, and faults that are over."""
        now_s = time.monotonic()
        for consumer in list(self._consumers):
            code = consumer.exit_code
            if code is not None:
                self._consumers.remove(consumer)
                self._note_exit(consumer, code)
                self._restarts.append(now_s + RESTART_S)
            elif consumer.thaw_s is None and consumer.is_stopped:
                consumer.thaw_s = now_s + self._random.uniform(*FROZEN_S)
            elif consumer.thaw_s is not None and now_s > consumer.thaw_s:
                consumer.thaw_s = None
                consumer.send(signal.SIGCONT)
        for until_s, undo in [due for due in self._until if due[0] < now_s]:
            self._until.remove((until_s, undo))
            undo()
        for due_s in [due_s for due_s in self._restarts if due_s < now_s]:
            self._restarts.remove(due_s)
            self._start()

    def _note(self, what: str) -> None:
        self.report.log.append(f"{time.monotonic() - self._begin_s:6.2f} s  {what}")

    def _note_exit(self, consumer: Consumer, code: int) -> None:
        text = consumer.log.read_text()
        lines = text.splitlines() or [""]
        self._note(f"{consumer.name} ended: {code}")
        if code == -signal.SIGKILL:
            return
        self.report.exits[f"exit code {code}: {lines[-1]}"] += 1
        if "Traceback" in text:
            self.report.wrong.append(f"{consumer.name} ended with a traceback: {lines[-1]}")

    def _start(self) -> Consumer:
        number = self._names
        self._names += 1
        more = {
            **self._setting,
            "PYTHONPATH": str(ROOT),
            "STEPSTREAM_KAFKA__BOOTSTRAP_SERVERS": self._site.proxied,
        }
        # Half of them use the transactional id of a consumer that ended, as in a StatefulSet.
        owned = {consumer.name.partition("-")[0] for consumer in self._consumers}
        slot = next(name for name in "abcdefgh" if name not in owned)
        random = self._random
        if random.random() < 0.5:
            more["STEPSTREAM_KAFKA__TRANSACTIONAL_ID"] = f"{self._topics.group}-{slot}"
        point = ""
        if random.random() < PARENTS:
            more["STEPSTREAM_WORKERS"] = "2"
            self.report.injected["workers"] += 1
        elif self._trapping and random.random() < TRAPPED:
            point = more["FAULT_POINT"] = _choose_point(random)
            self.report.injected[f"trap: {point.rpartition(':')[2]}"] += 1
        if random.random() < 0.5:
            more["FAULT_RELEASE"] = "next"
            self.report.injected["later release"] += 1
        elif self._older:
            more["PYTHONPATH"] = f"{self._older.resolve()}{os.pathsep}{ROOT}"
            if ":Producer." not in point:
                # Its classes have other names; those of the client are the same.
                more.pop("FAULT_POINT", None)
            self.report.injected["earlier release"] += 1
        # Of the two that begin, one has it.
        if self._other_model and (number == 1 or (number > 1 and random.random() < 0.5)):
            more["STEPSTREAM_MODEL__PATH"] = str(self._other_model.resolve())
            self.report.injected["other model"] += 1
        consumer = Consumer(self._topics, self._folder, f"{slot}-{number}", **more)
        self._consumers.append(consumer)
        self._note(f"{consumer.name} started {point}")
        return consumer

    def _inject(self, kind: str, what: object = "") -> None:
        self.report.injected[kind] += 1
        self._note(f"{kind} {what}")

    def _one(self) -> Consumer | None:
        alive = [c for c in self._consumers if c.is_alive and c.thaw_s is None]
        return self._random.choice(alive) if alive else None

    def _signal(self, kind: str, number: int) -> None:
        consumer = self._one()
        if consumer is None:
            return
        pid = self._random.choice(consumer.processes)
        if pid == consumer.pid:
            self._inject(kind, consumer.name)
            consumer.send(number)
            return
        self._inject(f"{kind} of a worker", consumer.name)
        _send(pid, number)
        if number == signal.SIGSTOP:
            thaw_s = time.monotonic() + self._random.uniform(*FROZEN_S)
            self._until.append((thaw_s, lambda: _send(pid, signal.SIGCONT)))

    def _add(self) -> None:
        if len(self._consumers) < CONSUMERS:
            self._inject("added", self._start().name)

    def _remove(self) -> None:
        consumer = self._one()
        if consumer is not None and len(self._consumers) > 1:
            self._inject("removed", consumer.name)
            self._consumers.remove(consumer)
            consumer.send(signal.SIGTERM)

            def has_ended() -> bool:
                # A fault within it may stop it on its way; then it would never end.
                consumer.send(signal.SIGCONT)
                return not consumer.is_alive

            wait_until("the end of a removed consumer", has_ended)
            self._note_exit(consumer, consumer.terminate())

    def _kill_broker(self) -> None:
        self._inject("broker killed")
        self._site.broker.kill()
        down_s = time.monotonic() + self._random.uniform(0, 3)
        while time.monotonic() < down_s:
            self._turn()
            time.sleep(TURN_S)
        self._site.broker.start()
        self._note("broker started")

    def _cut(self) -> None:
        self._inject("connections cut")
        self._site.proxy.cut(self._random.choice([0.3, 1.0]), self._random)

    def _for_a_while(self, kind: str, longest_s: float) -> None:
        lasts_s = self._random.uniform(0.5, longest_s)
        self._inject(kind, f"for {lasts_s:.1f} s")
        self._until.append((time.monotonic() + lasts_s, self._site.proxy.restore))

    def _stall(self) -> None:
        self._for_a_while("connections stalled", 5)
        self._site.proxy.stall()

    def _delay(self) -> None:
        self._for_a_while("connections delayed", 3)
        self._site.proxy.delay_s = self._random.uniform(0.02, 0.3)

    def _throttle(self) -> None:
        self._for_a_while("connections throttled", 3)
        self._site.proxy.bytes_per_s = self._random.uniform(20_000, 200_000)


FAULTS: dict[str, tuple[float, Callable[[Round], None]]] = {
    "kill": (4, lambda r: r._signal("SIGKILL", signal.SIGKILL)),
    "terminate": (3, lambda r: r._signal("SIGTERM", signal.SIGTERM)),
    "freeze": (3, lambda r: r._signal("SIGSTOP", signal.SIGSTOP)),
    "add": (2, Round._add),
    "remove": (1, Round._remove),
    "broker": (0.7, Round._kill_broker),
    "cut": (2, Round._cut),
    "stall": (1, Round._stall),
    "delay": (1, Round._delay),
    "throttle": (1, Round._throttle),
}
"""What happens to a round, how often, and how."""


def _send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _choose_point(random: Random) -> str:
    what = random.choice(["kill", "kill", "stop", "sleep", "full", "abort", "fatal"])
    method = {
        "full": "Producer.produce",
        "abort": random.choice(
            ["Producer.send_offsets_to_transaction", "Producer.commit_transaction"]
        ),
        "fatal": random.choice(
            [
                "Producer.begin_transaction",
                "Producer.produce",
                "Producer.send_offsets_to_transaction",
                "Producer.commit_transaction",
            ]
        ),
    }.get(what) or random.choice([*POINTS])
    # The client doesn't refuse what it has done.
    moment = "before" if what in {"full", "abort"} else random.choice(["before", "after"])
    return f"{moment}:{method}:{random.randint(1, POINTS[method])}:{what}"
