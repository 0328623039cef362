"""Crashes without a broker: a log, what was committed, consumers that die at any moment."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, cycle, groupby, pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stepstream.settings import (
    InputSettings,
    OutputSettings,
    ProcessingSettings,
    Settings,
    TopicSettings,
)
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.outbox import Outbox
from stepstream.streaming.positions import Position, Start
from stepstream.streaming.processor import Processor
from stepstream.streaming.stream_time import StreamTime
from tests.builders import encode
from tests.detection.builders import TransparentModel
from tests.detection.split_streams import JSON_INPUT, SplitStream, as_json, split_streams
from tests.detection.streams import Stream, streams
from tests.outputs.published import Published
from tests.streaming.records import FakeRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.detection import Model

MODEL = TransparentModel()
NEXT = TransparentModel(msgspec.structs.replace(MODEL.metadata, version="2"))
STRICTER = TransparentModel(
    msgspec.structs.replace(
        MODEL.metadata, version="3", start_threshold=0.6, end_threshold=0.62, refractory=24
    )
)
TOPIC = TopicIdentity("topic-id", 4)
DEFAULTS = ProcessingSettings()
PLAIN = InputSettings()
PUBLISHED = OutputSettings()
SPLIT = InputSettings(**JSON_INPUT)
MOST_CRASHES = 6
"""If a replay is longer than the time between two crashes, it never ends."""
NAMES = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")


def messages(stream: Stream) -> list[FakeRecord]:
    """The stream as messages of one partition."""
    records = []
    for offset, group in groupby(stream.readings, key=lambda reading: reading.offset):
        readings = list(group)
        columns = zip(*(reading.axes for reading in readings), strict=True)
        value = {
            "timestamp": [reading.time_us / 1e6 for reading in readings],
            **{name: list(column) for name, column in zip(NAMES, columns, strict=True)},
        }
        key = f"device-{readings[0].device}".encode()
        records.append(FakeRecord(key, encode(value), offset, readings[0].stream_ms))
    return records


def split_messages(stream: SplitStream) -> list[FakeRecord]:
    """The same of devices whose sensors send apart; `SPLIT` reads them."""
    return [
        FakeRecord(
            f"device-{message[0].device}".encode(),
            as_json(message),
            message[0].offset,
            message[0].stream_ms,
        )
        for message in stream.messages
    ]


class Kafka:
    """What outlives a consumer: the input, and all that was committed.

    Parameters
    ----------
    log
        The messages.
    arrival_ms
        When each of them arrives, by the consumer's clock; by default as their records say.
    processing, input, output
        The consumers' settings.
    """

    def __init__(
        self,
        log: Sequence[FakeRecord],
        arrival_ms: Sequence[int] = (),
        processing: ProcessingSettings = DEFAULTS,
        input: InputSettings = PLAIN,  # noqa: A002 - the setting's name
        output: OutputSettings = PUBLISHED,
    ) -> None:
        self.log = log
        arrived_ms = arrival_ms or [record.time_ms for record in log]
        self.arrival_ms = list(accumulate(arrived_ms, max))
        topics = TopicSettings(minutes="minutes", walks="walks", counts="counts")
        self.settings = Settings(processing=processing, input=input, output=output, topics=topics)
        self.offsets = [record.offset() for record in log]
        self.offset = 0
        self.metadata = ""
        self.state: list[tuple[bytes, bytes | None]] = []
        self.events: list[dict[str, Any]] = []
        self.minutes: list[dict[str, Any]] = []
        self.walks: list[dict[str, Any]] = []
        self.counts: list[dict[str, Any]] = []
        self.dead_letters: list[int] = []
        self.replayed = 0


class Consumer:
    """One life of a consumer: everything between its assignment and its end."""

    def __init__(self, kafka: Kafka, model: Model = MODEL) -> None:
        self.kafka = kafka
        self.processor = Processor(model, kafka.settings)
        self.partition = self.processor.add_partition("readings", 0)
        end_offset = kafka.log[-1].offset() + 1
        self.partition.restore_from(
            Position(TOPIC, kafka.offset, kafka.metadata, 0, end_offset, len(kafka.state))
        )
        for key, value in kafka.state:
            self.partition.ledger.restore(key, value, kafka.arrival_ms[0])
        self.partition.start_at(Start(kafka.offset, Checkpoint.decode(kafka.metadata)))
        self.outbox = Outbox()

    def poll(self, size: int) -> bool:
        """Process the next messages, when the last of them has arrived."""
        kafka = self.kafka
        begin = bisect_left(kafka.offsets, self.partition.next_offset)
        if begin == len(kafka.log):
            return False
        messages = kafka.log[begin : begin + size]
        self.process(messages, kafka.arrival_ms[begin + len(messages) - 1])
        return True

    def process(self, messages: Sequence[FakeRecord], now_ms: int) -> None:
        """Process messages at a time by the clock."""
        results = self.processor.process({self.partition: messages}, now_ms * 1000)
        self.kafka.replayed += sum(one.replayed for one in results)
        if not self.partition.is_replaying:
            self.outbox.add(results)

    def commit(self) -> None:
        kafka = self.kafka
        topics = kafka.settings.topics
        for results in self.outbox.drain():
            self.partition.note_committed(results.next_offset)
            for record in results.records:
                of_topic = {
                    topics.events: kafka.events,
                    topics.minutes: kafka.minutes,
                    topics.walks: kafka.walks,
                }.get(record.topic)
                if of_topic is not None:
                    of_topic.append(json.loads(record.value or b""))
                else:
                    headers = dict(record.headers)
                    kafka.dead_letters.append(int(headers["stepstream-offset"] or b""))
            for record in results.latest.values():
                if record.topic == topics.counts:
                    kafka.counts += [json.loads(record.value)] if record.value else []
                else:
                    kafka.state.append((record.key or b"", record.value))
            kafka.offset, kafka.metadata = results.next_offset, results.metadata


def check_same(one: Kafka, other: Kafka) -> None:
    """Check that the outputs of both are the same, and what the steps give."""
    assert by_device(one.events) == by_device(other.events)
    assert by_device(one.minutes) == by_device(other.minutes)
    assert by_device(one.walks) == by_device(other.walks)
    for kafka in (one, other):
        outputs = {"minutes": kafka.minutes, "walks": kafka.walks, "counts": kafka.counts}
        assert Published(kafka.events, outputs).faults() == []


def by_device(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        grouped.setdefault(event["device_id"], []).append(event)
    return grouped


def run(
    kafka: Kafka,
    seed: int,
    *,
    crashes: bool,
    models: Sequence[Model] = (MODEL,),
    most: int = 40,
) -> Kafka:
    """Process the whole log; each life of the consumer has the next of the models."""
    random = np.random.default_rng(seed)
    lives = cycle(models)
    consumer = Consumer(kafka, next(lives))
    crashes_left = MOST_CRASHES if crashes else 0
    while consumer.poll(int(random.integers(1, most))):
        if random.random() < 0.4:
            consumer.commit()
        if crashes_left and random.random() < max(0.08, most / 1000):
            consumer, crashes_left = Consumer(kafka, next(lives)), crashes_left - 1
    consumer.commit()
    return kafka


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_crashes_at_any_moment_lose_and_repeat_nothing(stream: Stream, seed: int) -> None:
    log = messages(stream)
    expected = run(Kafka(log), seed, crashes=False)
    crashed = run(Kafka(log), seed, crashes=True)
    check_same(crashed, expected)
    for events in by_device(crashed.events).values():
        assert [event["step_count"] for event in events] == list(range(1, len(events) + 1))


@given(split_streams(in_step=True), st.integers(0, 2**32 - 1), st.sampled_from([5.0, 10.0, 45.0]))
@settings(max_examples=40, deadline=None)
def test_crashes_lose_and_repeat_nothing_of_sensors_that_send_apart(
    stream: SplitStream, seed: int, idle_timeout_s: float
) -> None:
    log = split_messages(stream)
    assume(log)
    processing = ProcessingSettings(idle_timeout_s=idle_timeout_s)
    expected = run(Kafka(log, (), processing, SPLIT), seed, crashes=False)
    crashed = run(Kafka(log, (), processing, SPLIT), seed, crashes=True)
    assert expected.dead_letters == []
    check_same(crashed, expected)


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_model_that_changes_only_its_name_changes_nothing_else(stream: Stream, seed: int) -> None:
    log = messages(stream)
    expected = run(Kafka(log), seed, crashes=False)
    changed = run(Kafka(log), seed, crashes=True, models=(MODEL, NEXT))
    for event in expected.events + changed.events:
        del event["model"]
    for events in (expected.minutes, changed.minutes, expected.walks, changed.walks):
        for event in events:
            del event["model"]
    check_same(changed, expected)


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_counts_go_on_by_one_whatever_model_follows_a_crash(stream: Stream, seed: int) -> None:
    models = (MODEL, STRICTER, NEXT)
    least_s = MODEL.metadata.refractory * MODEL.metadata.period_us / 1e6
    changed = run(Kafka(messages(stream)), seed, crashes=True, models=models)
    for events in by_device(changed.events).values():
        assert [event["step_count"] for event in events] == list(range(1, len(events) + 1))
        for event, following in pairwise(events):
            later_s = following["ended_at"] - event["ended_at"]
            assert later_s >= least_s - 1e-6 or later_s < -600


def glitching(stream: Stream, seed: int) -> list[FakeRecord]:
    """The stream with readings and record times that are ahead of the clock when they come."""
    random = np.random.default_rng(seed)
    log = []
    for record in messages(stream):
        time_ms, value = record.time_ms, record.message_value
        if random.random() < 0.03:
            time_ms += 60_500
        elif random.random() < 0.03:
            content = json.loads(value or b"")
            content["timestamp"] = [t + 60.5 for t in content["timestamp"]]
            value = encode(content)
        log.append(FakeRecord(record.message_key, value, record.message_offset, time_ms))
    return log


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@example(Stream(5913, [[("walk", 45)]], in_step=True), 7329085)
@settings(max_examples=20, deadline=None)
def test_what_was_ahead_of_the_clock_is_refused_in_a_replay_too(stream: Stream, seed: int) -> None:
    # Messages one by one, so that each is checked by the clock at its own arrival.
    log = glitching(stream, seed)
    arrival_ms = list(np.maximum.accumulate([record.time_ms for record in messages(stream)]))

    def life(crashes_left: int) -> Kafka:
        random = np.random.default_rng(seed)
        kafka = Kafka(log)
        consumer, at = Consumer(kafka), 0
        while at < len(log):
            begin = bisect_left(kafka.offsets, consumer.partition.next_offset)
            at = max(at, begin)
            # A message that wasn't committed is processed as if it came now.
            replays = consumer.partition.is_replaying
            now_ms = int(arrival_ms[at if replays else begin])
            consumer.process([log[begin]], now_ms)
            if begin == at:
                at += 1
            if random.random() < 0.3:
                consumer.commit()
            if crashes_left and random.random() < 0.03 and at < len(log):
                consumer, crashes_left = Consumer(kafka), crashes_left - 1
        consumer.commit()
        return kafka

    expected, crashed = life(0), life(4)
    check_same(crashed, expected)
    assert crashed.dead_letters == expected.dead_letters


def uploading(log: Sequence[FakeRecord], interval_ms: int) -> list[FakeRecord]:
    """The log of devices that gather their readings and upload them together."""
    waiting: dict[bytes | None, list[FakeRecord]] = {}
    last = {record.message_key: n for n, record in enumerate(log)}
    uploaded = []
    for n, record in enumerate(log):
        gathered = waiting.setdefault(record.message_key, [])
        gathered.append(record)
        is_due = record.time_ms - gathered[0].time_ms >= interval_ms
        if is_due or n == last[record.message_key]:
            values = [json.loads(one.message_value or b"") for one in gathered]
            columns = {name: [x for value in values for x in value[name]] for name in values[0]}
            uploaded.append(replace(record, message_value=encode(columns)))
            waiting[record.message_key] = []
    return uploaded


def ahead(log: Sequence[FakeRecord], by_ms: int, *, records_too: bool) -> list[FakeRecord]:
    """The log of devices of which every second has a clock that is ahead."""
    keys = sorted({record.message_key or b"" for record in log})[::2]
    moved = []
    for record in log:
        if record.message_key in keys:
            content = json.loads(record.message_value or b"")
            content["timestamp"] = [t + by_ms / 1000 for t in content["timestamp"]]
            time_ms = record.time_ms + (by_ms if records_too else 0)
            record = replace(record, message_value=encode(content), time_ms=time_ms)  # noqa: PLW2901
        moved.append(record)
    return moved


@dataclass(frozen=True)
class Deployment:
    """What differs between places where stepstream runs."""

    idle_timeout_s: float
    max_lateness_s: float
    upload_ms: int
    ahead_ms: int
    """At most 49 s. Devices of a stream are up to 10 s ahead anyway. What is over 60 s ahead is
    refused or not by the time of the poll, which differs from run to run."""
    records_too: bool
    most: int
    """Messages of a poll."""

    def kafka(self, stream: Stream) -> Kafka:
        log = uploading(messages(stream), self.upload_ms)
        processing = ProcessingSettings(
            idle_timeout_s=self.idle_timeout_s, max_lateness_s=self.max_lateness_s
        )
        arrival_ms = [record.time_ms for record in log]
        moved = ahead(log, self.ahead_ms, records_too=self.records_too)
        return Kafka(moved, arrival_ms, processing)


DEPLOYMENTS = st.builds(
    Deployment,
    idle_timeout_s=st.sampled_from([5.0, 10.0, 45.0, 120.0]),
    max_lateness_s=st.sampled_from([30.0, 600.0]),
    upload_ms=st.sampled_from([0, 2_000, 15_000]),
    ahead_ms=st.sampled_from([0, 30_000, 49_000]),
    records_too=st.booleans(),
    most=st.sampled_from([80, 300, 900]),
)


@given(streams(in_step=True), DEPLOYMENTS, st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_crashes_lose_and_repeat_nothing_wherever_it_runs(
    stream: Stream, deployment: Deployment, seed: int
) -> None:
    expected = run(deployment.kafka(stream), seed, crashes=False, most=deployment.most)
    crashed = run(deployment.kafka(stream), seed, crashes=True, most=deployment.most)
    check_same(crashed, expected)
    assert crashed.dead_letters == expected.dead_letters


def with_repeats(log: list[FakeRecord], seed: int) -> list[FakeRecord]:
    """The log with messages of the last minutes delivered again, anywhere after the first time."""
    random = np.random.default_rng(seed)
    seen: dict[bytes | None, list[FakeRecord]] = {}
    last_s: dict[bytes | None, float] = {}
    delivered: list[FakeRecord] = []
    for record in log:
        times = json.loads(record.message_value or b"")["timestamp"]
        key = record.message_key
        # After a clock was set back by more than the lateness, what came before can't be told from
        # a clock that goes forward again.
        if min(times) < last_s.get(key, 0.0) - 600:
            seen[key], last_s[key] = [], times[-1]
        else:
            seen.setdefault(key, []).append(record)
            last_s[key] = max(last_s.get(key, 0.0), *times)
        delivered.append(record)
        if random.random() < 0.2:
            known = list(seen.values())[int(random.integers(len(seen)))][-30:]
            if known:
                again = known[int(random.integers(len(known)))]
                delivered.append(replace(again, time_ms=record.time_ms))
    return [replace(record, message_offset=n) for n, record in enumerate(delivered)]


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_messages_delivered_again_change_no_event(stream: Stream, seed: int) -> None:
    log = messages(stream)
    expected = run(Kafka(log), seed, crashes=False)
    repeated = run(Kafka(with_repeats(log, seed)), seed, crashes=True)

    def steps(kafka: Kafka) -> dict[str, list[dict[str, Any]]]:
        bare = [{k: v for k, v in event.items() if k != "event_id"} for event in kafka.events]
        return by_device(bare)

    assert steps(repeated) == steps(expected)


def _check_replays_by_one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def latest_us(self: Any, stream_ms: Any, now_us: int, *, is_replaying: bool) -> Any:
        honest = honest_latest_us(self, stream_ms, now_us, is_replaying=is_replaying)
        return int(stream_ms[0]) * 1000 + 60_000_000 if is_replaying else honest

    honest_latest_us = StreamTime.latest_us
    monkeypatch.setattr(StreamTime, "latest_us", latest_us)


def _check_replays_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StreamTime, "note_refused", lambda *_: None)


WALKS = Stream(10, [[("walk", 130)] * 6, [("walk", 130)] * 6], in_step=True)
FAR_AHEAD = Deployment(120.0, 600.0, 500, 49_000, records_too=False, most=30)


@pytest.mark.parametrize(
    ("mistake", "driver"),
    [
        (
            _check_replays_by_one_clock,
            partial(
                test_crashes_lose_and_repeat_nothing_wherever_it_runs.hypothesis.inner_test,  # type: ignore[attr-defined]
                WALKS,
                FAR_AHEAD,
            ),
        ),
        (
            _check_replays_not_at_all,
            partial(
                test_what_was_ahead_of_the_clock_is_refused_in_a_replay_too.hypothesis.inner_test,  # type: ignore[attr-defined]
                WALKS,
            ),
        ),
    ],
)
def test_each_mistake_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
    mistake: Callable[[pytest.MonkeyPatch], None],
    driver: Callable[[int], None],
) -> None:
    mistake(monkeypatch)
    for seed in range(20):
        try:
            driver(seed)
        except AssertionError:
            return
    pytest.fail("not noticed with 20 seeds")
