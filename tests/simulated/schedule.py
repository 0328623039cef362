"""A random schedule: consumers join, leave, freeze and die at any step; and its result."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from stepstream.settings import (
    InputSettings,
    KafkaSettings,
    OutputSettings,
    ProcessingSettings,
    Settings,
    TopicSettings,
)
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import Committed
from stepstream.streaming.consumer import Consumer
from stepstream.streaming.forgetting import COMMAND_HEADER, COMMAND_KEY, encode_command
from stepstream.streaming.ranges import Range
from tests.detection.builders import TransparentModel
from tests.detection.split_streams import JSON_INPUT, SplitStream
from tests.detection.streams import Stream
from tests.outputs.published import Published
from tests.simulated import kafka
from tests.simulated.registry import FormatWithSchemas
from tests.simulated.world import Process, World
from tests.streaming.test_recovery import (
    Kafka,
    by_device,
    messages,
    run,
    split_messages,
    uploading,
)

if TYPE_CHECKING:
    from tests.streaming.records import FakeRecord

MODEL = TransparentModel()
PARTITIONS = {"sensor-readings": 2, "other-readings": 1}
"""Two topics of readings, whose partitions of one number share a partition of the state topic."""
INPUTS: dict[str, dict[str, Any]] = {"other-readings": JSON_INPUT}
"""How their messages are written: in one of them, sensors send apart."""
LOGS = 16
"""Number of inputs; to make one and to find its steps needs more time than a schedule."""
OUTPUTS = {"minutes": "minutes", "walks": "walks", "counts": "counts"}
SPEED = 10.0
"""How much faster than their own time the readings arrive."""
DISTURBED = 0.02
"""Probability of a fault at each step."""
MOST_CONSUMERS = 3
LONGEST_S = 120.0
"""Simulated time after which everything must be committed."""
RUBBISH = 0.02
HELD_S = 10.0
"""How long consumers are disturbed while partitions are held."""
RELEASED = 0.1
"""Probability at each step that a person releases a partition that is held."""
FORGET = 0.01


@dataclass(frozen=True)
class Input:
    """Messages of the input partitions, and what one undisturbed consumer makes of them.

    Attributes
    ----------
    processing, grace_s
        Settings of all consumers.
    log
        Messages; their arrival counts from 0.
    events
        The events of each device, with ids.
    groups
        The minutes and walks of each device, with their ids, if there are commands to forget
        devices among the messages; otherwise the events say what they have to be.
    invalid
        Topic, partition and offset of the messages that are invalid.
    """

    processing: dict[str, Any]
    grace_s: float
    log: dict[kafka.NAME, list[kafka.Message]]
    events: dict[str, list[dict[str, Any]]]
    groups: dict[str, dict[str, list[dict[str, Any]]]]
    invalid: set[tuple[str, int, int]]


@lru_cache(2 * LOGS)
def make_input(seed: int, *, forgets: bool) -> Input:
    """Random devices in each partition, with some messages that are invalid.

    ``forgets`` puts commands to forget a device among them.
    """
    random = Random(seed)  # noqa: S311 - it hides nothing
    processing = {
        "idle_timeout_s": random.choice([5.0, 10.0, 10.0, 60.0]),
        "max_lateness_s": random.choice([60.0, 600.0]),
    }
    upload_ms = random.choice([0, 0, 3_000, 15_000])
    kinds = ["walk", "walk", "walk", "gap", "late", "back", "quiet"]
    split_kinds = [*kinds, "accel", "gyro", "behind"]
    log: dict[kafka.NAME, list[kafka.Message]] = {}
    events: list[dict[str, Any]] = []
    groups: dict[str, list[dict[str, Any]]] = {"minutes": [], "walks": []}
    # By itself, so that it changes nothing else.
    grace_s = Random(f"grace {seed}").choice([0.0, 1.0, 30.0])  # noqa: S311 - it hides nothing
    invalid: set[tuple[str, int, int]] = set()
    for topic, number in [(t, n) for t, count in PARTITIONS.items() for n in range(count)]:
        is_split = topic in INPUTS
        devices = [
            [
                ("walk", 60),
                *(
                    (random.choice(split_kinds if is_split else kinds), random.randint(1, 60))
                    for _ in range(3)
                ),
            ]
            for _ in range(random.randint(1, 2))
        ]
        stream = _stream(random.randrange(2**32), devices, upload_ms, is_split=is_split)
        first_ms, name = stream[0].time_ms, f"-{topic}-{number}".encode()
        part = log[topic, number] = [
            kafka.Message(
                (r.message_key or b"") + name,
                b"{" if random.random() < RUBBISH else r.message_value,
                r.message_offset,
                r.time_ms,
                [],
                topic,
                number,
                None,
                (r.time_ms - first_ms) / 1000 / SPEED,
            )
            for r in stream
        ]
        if forgets:
            part = log[topic, number] = _with_commands(part, f"{seed}-{topic}-{number}")
        alone = run(
            Kafka(
                part,
                processing=ProcessingSettings(**processing),
                input=InputSettings(**INPUTS.get(topic, {})),
                output=OutputSettings(grace_s=grace_s),
            ),
            0,
            crashes=False,
        )
        place = f"{topic}-{number}"
        events += _named(alone.events, "event_id", place)
        groups["minutes"] += _named(alone.minutes, "minute_id", place)
        groups["walks"] += _named(alone.walks, "walk_id", place)
        invalid |= {(topic, number, offset) for offset in alone.dead_letters}
    expected = {kind: by_device(values) for kind, values in groups.items()} if forgets else {}
    return Input(processing, grace_s, log, by_device(events), expected, invalid)


def _named(values: list[dict[str, Any]], name: str, place: str) -> list[dict[str, Any]]:
    """Values whose ids name their partition."""
    return [{**value, name: value[name].replace("readings-0", place, 1)} for value in values]


def _with_commands(part: list[kafka.Message], seed: str) -> list[kafka.Message]:
    """Messages, and behind some of them the command to forget their device.

    A last message moves stream time so far that all minutes and walks are final.
    """
    random = Random(seed)  # noqa: S311 - it hides nothing
    made: list[kafka.Message] = []
    added = 0
    for message in part:
        made.append(replace(message, message_offset=message.message_offset + added))
        if random.random() < FORGET:
            added += 1
            made.append(
                replace(
                    message,
                    message_key=COMMAND_KEY,
                    message_value=encode_command([(message.message_key or b"").decode()]),
                    message_offset=message.message_offset + added,
                    message_headers=[(COMMAND_HEADER, b"1")],
                )
            )
    last = made[-1]
    made.append(
        replace(
            last,
            message_value=b"{",
            message_offset=last.message_offset + 1,
            time_ms=last.time_ms + 3_600_000,
            message_headers=[],
        )
    )
    return made


def _stream(
    seed: int, devices: list[list[tuple[str, int]]], upload_ms: int, *, is_split: bool
) -> list[FakeRecord]:
    if is_split:
        return split_messages(SplitStream(seed, devices, in_step=True))
    return uploading(messages(Stream(seed, devices, in_step=True)), upload_ms)


class BackfillSettings(Settings):
    """Settings of consumers that read ranges."""

    reads_ranges: ClassVar[bool] = True


class Schedule:
    """One schedule; everything in it follows from its seed.

    Parameters
    ----------
    seed
        Of everything.
    guarantee
        The consumers' guarantee.
    is_backfill
        Whether a random range of each partition is read, and not all of it.
    holds
        Whether partitions are held at one invalid message, until a person releases them.
    """

    def __init__(
        self,
        seed: int,
        guarantee: str = "exactly_once",
        *,
        is_backfill: bool = False,
        holds: bool = False,
    ) -> None:
        self._random = Random(seed)  # noqa: S311 - it hides nothing
        self._guarantee = guarantee
        # A limit is checked after each poll.
        self._limits = {"dead_letter_streak": 1, "poll_max_messages": 5} if holds else {}
        # At-least-once repeats what came before a command, with counts from 1.
        forgets = guarantee == "exactly_once" and seed % 2 == 0 and not is_backfill
        self._input = make_input(seed % LOGS, forgets=forgets)
        log = self._input.log
        latest_ms = max(part[-1].time_ms for part in log.values())
        self.world = World(self._random, latest_ms / 1000 + 60)
        arrival_s = max(part[-1].arrival_s for part in log.values())
        # In half of the schedules, the second topic is created while consumers run.
        created_s, self._readings = {}, tuple(PARTITIONS)
        if not is_backfill and self._random.random() < 0.5:
            created_s = {"other-readings": self._random.uniform(0, arrival_s)}
            self._readings = ("sensor-readings", "^other")
        if is_backfill:
            # All of it is there.
            log = {name: [replace(m, arrival_s=0.0) for m in part] for name, part in log.items()}
        self.broker = kafka.Broker(self.world, log, created_s)
        self._ranges = {name: Range() for name in log}
        if is_backfill:
            self._ranges = {name: self._plan(name, part) for name, part in log.items()}
        self._settings = BackfillSettings if is_backfill else Settings
        self._processes: list[tuple[Process, list[Consumer]]] = []
        if self._random.random() < 0.5:
            foreign = kafka.ForeignWriter(self.broker, max(PARTITIONS.values()))
            self.world.spawn(Process("foreign"), foreign.run)
        self._names = 0
        self.injected: Counter[str] = Counter()
        self.wrong: list[str] = []

    def _plan(self, name: kafka.NAME, part: list[kafka.Message]) -> Range:
        """Commit a random range of a partition, whose history is all that is before it."""
        first, last = part[0].offset(), part[-1].offset() + 1
        begin, end = sorted(self._random.randint(first, last) for _ in range(2))
        stream_ms = max((m.time_ms for m in part if m.offset() < begin), default=0)
        topic_id, count = f"id-of-{name[0]}", PARTITIONS[name[0]]
        range_ = Range(begin, end, request="some")
        checkpoint = Checkpoint(first, 0, stream_ms, 0, topic_id, count, range=range_)
        self.broker.committed[name] = Committed(begin, checkpoint.encode())
        return range_

    def run(self) -> None:
        """Play it to its end; `wrong` says what is wrong."""
        begin_s = self.world.now_s
        last_s = begin_s + max(part[-1].arrival_s for part in self._input.log.values())
        self._start()
        self._start()
        if self._limits:
            # First let partitions be held, and then disturb who holds them.
            while self.world.now_s < last_s:
                self._step()
            last_s += HELD_S
        while self.world.now_s < last_s or self.broker.trouble:
            self.broker.trouble = 0.004 if self.world.now_s < last_s else 0.0
            self._disturb()
            self._step()
        while not self._is_committed():
            self._step()
            self._release_partitions()
            if self.world.now_s - last_s > LONGEST_S:
                self.wrong.append(f"not all committed after {LONGEST_S:.0f} s")
                break
        self._end()
        self.injected.update(self.broker.went_wrong)
        self.injected["seconds"] += round(self.world.now_s - begin_s)
        if not self.wrong:
            self._compare()

    def _step(self) -> None:
        self.broker.expire()
        self.world.step()
        for process, made in list(self._processes):
            if process.error is not None:
                self.wrong.append(f"{process.name}: {process.error!r}")
                self._processes.remove((process, made))
        if not self._processes and len(self.wrong) < 3:
            self._start()

    def _release_partitions(self) -> None:
        """Let a person release held partitions after a while."""
        for name, committed in self.broker.committed.items():
            is_marked = committed == self.broker.marks.get(name)
            if kafka.is_held(committed) and not is_marked and self._random.random() < RELEASED:
                self.broker.marks[name] = committed
                self.injected["released"] += 1

    def _start(self) -> None:
        """Half of them use the transactional id of a consumer that ended."""
        own = {process.name.partition("-")[0] for process, _ in self._processes}
        slot = next(name for name in "abcdefgh" if name not in own)
        self._names += 1
        process = Process(f"{slot}-{self._names}")
        taken_over = self._random.random() < 0.5
        settings = self._settings(
            kafka=KafkaSettings(
                transactional_id=slot if taken_over else process.name,
                properties={"topic.metadata.refresh.interval.ms": 1_000},
            ),
            topics=TopicSettings(readings=self._readings, **OUTPUTS),
            output=OutputSettings(grace_s=self._input.grace_s),
            inputs=INPUTS,
            processing=ProcessingSettings(
                guarantee=self._guarantee,
                commit_interval_ms=self._random.choice([20, 500]),
                outbox_max_records=self._random.choice([5, 1000]),
                **{"poll_max_messages": self._random.choice([3, 30, 8_000]), **self._limits},
                **self._input.processing,
            ),
        )
        made: list[Consumer] = []
        needs_schemas = self._random.random() < 0.5

        def work() -> None:
            clients = kafka.Clients(self.broker, settings)
            consumer = Consumer(settings, MODEL, clients, self.world)
            if needs_schemas:
                self._require_schemas(consumer)
            made.append(consumer)
            consumer.run()

        self._processes.append((process, made))
        self.world.spawn(process, work)

    def _require_schemas(self, consumer: Consumer) -> None:
        """Let the messages of one topic need schemas of a registry that is often away."""
        processor = consumer.processor
        topic = self._random.choice(list(PARTITIONS))
        # The format of a topic that is found by a pattern is made when it is needed.
        processor._formats[topic] = FormatWithSchemas(
            processor._format(topic), self.world, lambda: self.broker.trouble
        )
        self.injected["schemas"] += 1

    def _disturb(self) -> None:
        random = self._random
        # A hold needs time to be taken over.
        probability = DISTURBED / 10 if self._limits else DISTURBED
        if random.random() > probability or not self._processes:
            return
        process, made = random.choice(self._processes)
        what = random.choice(["kill", "kill", "freeze", "stop", "add"])
        self.injected[what] += 1
        if what == "kill":
            self._processes.remove((process, made))
            self.world.kill(process)
        elif what == "freeze":
            process.frozen_until_s = self.world.now_s + random.uniform(0, 3 * kafka.SESSION_S)
        elif what == "stop" and made:
            made[0].stop()
            self._processes.remove((process, made))
        elif what == "add" and len(self._processes) < MOST_CONSUMERS:
            self._start()

    def _is_committed(self) -> bool:
        return all(
            name in self.broker.committed
            and self.broker.committed[name].offset
            >= min(self._ranges[name].end, part[-1].offset() + 1)
            for name, part in self._input.log.items()
        )

    def _end(self) -> None:
        """Stop all consumers normally."""
        for process, made in self._processes:
            process.frozen_until_s = 0.0
            for running in made:
                running.stop()
        end_s = self.world.now_s + LONGEST_S
        while any(task.process.name != "foreign" for task in self.world.tasks):
            self.broker.expire()
            self.world.step()
            if self.world.now_s > end_s:
                self.wrong.append("a consumer doesn't end")
                break
        self.wrong += [f"{p.name}: {p.error!r}" for p, _ in self._processes if p.error]
        for task in list(self.world.tasks):
            self.world.kill(task.process)

    def _compare(self) -> None:
        events = [json.loads(entry.value or b"") for entry in self.broker.read("step-events")]
        letters = [
            (
                entry.headers["stepstream-topic"].decode(),
                int(entry.headers["stepstream-partition"]),
                int(entry.headers["stepstream-offset"]),
            )
            for entry in self.broker.read("sensor-readings.dlq")
        ]
        if self._guarantee == "at_least_once":
            unique = {event["event_id"]: event for event in events}
            events = sorted(unique.values(), key=lambda event: event["step_count"])
            letters = list(set(letters))
        self.injected["events"] += len(events)
        self._compare_outputs(events)
        expected, found = self._expected_events(), by_device(events)
        if self._settings.reads_ranges:
            found = self._without_uncounted(expected, found)
        for device in sorted(expected.keys() | found.keys()):
            if expected.get(device) != found.get(device):
                self.wrong.append(
                    f"{device}: {len(expected.get(device, []))} events expected, "
                    f"{len(found.get(device, []))} published, not the same"
                )
        invalid = sorted(at for at in self._input.invalid if self._is_within(*at))
        if sorted(letters) != invalid:
            self.wrong.append(f"{len(invalid)} are invalid, {len(letters)} dead letters")
        for name, range_ in self._ranges.items():
            if range_.is_bounded and self.broker.committed[name].offset != range_.end:
                self.wrong.append(f"{name} is committed to another offset than {range_.end}")

    def _expected_events(self) -> dict[str, list[dict[str, Any]]]:
        """The events in the ranges; counts begin with 1 there."""
        if not self._settings.reads_ranges:
            return self._input.events
        expected = {}
        for device, events in self._input.events.items():
            within: list[dict[str, Any]] = []
            for event in events:
                topic, number, offset, _ = event["event_id"].rsplit("-", 3)
                if self._is_within(topic, int(number), int(offset)):
                    within.append({**event, "step_count": len(within) + 1})
            if within:
                expected[device] = within
        return expected

    def _without_uncounted(
        self, expected: dict[str, list[dict[str, Any]]], found: dict[str, list[dict[str, Any]]]
    ) -> dict[str, list[dict[str, Any]]]:
        """What was found, without steps that only the ledger of one who read on would refuse.

        It has a step before the range that ends at almost the same time, or later.
        """
        least_s = MODEL.metadata.refractory * MODEL.metadata.period_us / 1e6
        left: dict[str, list[dict[str, Any]]] = {}
        for device, events in found.items():
            if [event["step_count"] for event in events] != list(range(1, len(events) + 1)):
                self.wrong.append(f"{device}: counts don't begin with 1, or have gaps")
            ids = {event["event_id"] for event in expected.get(device, [])}
            for event in events:
                ended_s = [e["ended_at"] for e in self._input.events[device] if _at(e) < _at(event)]
                is_uncounted = (
                    event["event_id"] not in ids
                    and ended_s
                    and event["ended_at"] - ended_s[-1] < least_s
                )
                if is_uncounted:
                    self.injected["uncounted"] += 1
                else:
                    kept = left.setdefault(device, [])
                    kept.append({**event, "step_count": len(kept) + 1})
        return left

    def _is_within(self, topic: str, number: int, offset: int) -> bool:
        range_ = self._ranges[topic, number]
        return range_.begin <= offset < range_.end

    def _compare_outputs(self, events: list[dict[str, Any]]) -> None:
        published = {
            kind: [json.loads(entry.value) for entry in self.broker.read(topic) if entry.value]
            for kind, topic in OUTPUTS.items()
        }
        if self._guarantee == "at_least_once":
            for kind, values in published.items():
                published[kind] = list({json.dumps(value): value for value in values}.values())
            published["counts"].sort(key=lambda count: count["step_count"])
        for kind, values in published.items():
            self.injected[kind] += len(values)
        if not self._input.groups:
            self.wrong += Published(events, published).faults()
        for kind, expected in self._input.groups.items():
            if by_device(published[kind]) != expected:
                self.wrong.append(f"{kind} are not the same")


def _at(event: dict[str, Any]) -> int:
    """Offset of the message that completed a step."""
    return int(event["event_id"].rsplit("-", 2)[1])
