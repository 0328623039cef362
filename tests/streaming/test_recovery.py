"""Crashes without a broker: a log, what was committed, consumers that die at any moment."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import replace
from itertools import cycle, groupby, pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepstream.settings import ProcessingSettings
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import TopicIdentity
from stepstream.streaming.outbox import Outbox
from stepstream.streaming.partitions import Phase
from stepstream.streaming.processor import Processor
from tests.builders import encode
from tests.detection.builders import TransparentModel
from tests.detection.streams import Stream, streams
from tests.streaming.records import FakeRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.detection import Model

MODEL = TransparentModel()
NEXT = TransparentModel(msgspec.structs.replace(MODEL.metadata, version="2"))
STRICTER = TransparentModel(
    msgspec.structs.replace(
        MODEL.metadata, version="3", start_threshold=0.6, end_threshold=0.62, refractory=24
    )
)
TOPIC = TopicIdentity("topic-id", 4)
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


class Kafka:
    """What outlives a consumer: the input, and all that was committed."""

    def __init__(self, log: Sequence[FakeRecord], behind_ms: int = 0) -> None:
        self.log = log
        self.offsets = [record.offset() for record in log]
        self.behind_ms = behind_ms
        self.offset = 0
        self.metadata = ""
        self.state: list[tuple[bytes, bytes | None]] = []
        self.events: list[dict[str, Any]] = []
        self.dead_letters: list[int] = []
        self.replayed = 0


class Consumer:
    """One life of a consumer: everything between its assignment and its end."""

    def __init__(self, kafka: Kafka, model: Model = MODEL) -> None:
        self.kafka = kafka
        self.processor = Processor(model, ProcessingSettings(), "group")
        self.partition = self.processor.add_partition("readings", 0)
        self.partition.enter(Phase.RESTORING)
        self.partition.identify(TOPIC, kafka.log[-1].offset() + 1)
        for key, value in kafka.state:
            self.partition.ledger.restore(key, value, 0)
        self.partition.begin_at(kafka.offset, Checkpoint.decode(kafka.metadata))
        self.outbox = Outbox()

    def poll(self, size: int) -> bool:
        """Take the next messages, at the time when the last of them arrives."""
        log = self.kafka.log
        begin = bisect_left(self.kafka.offsets, self.partition.next_offset)
        records = log[begin : begin + size]
        if not records:
            return False
        now_ms = max(record.time_ms for record in log[: begin + size]) + self.kafka.behind_ms
        results = self.processor.process([(self.partition, records)], now_ms * 1000)
        for _, outputs in results:
            self.kafka.replayed += outputs.replayed
        if not self.partition.is_replaying:
            self.outbox.seal(results)
        return True

    def commit(self) -> None:
        for sealed in self.outbox.take():
            self.partition.committed(sealed.next_offset)
            kafka = self.kafka
            kafka.events += [json.loads(value) for _, value in sealed.events]
            kafka.state += sealed.state.items()
            kafka.dead_letters += [
                int(dict(letter.headers)["stepstream-offset"] or b"")
                for letter in sealed.dead_letters
            ]
            kafka.offset, kafka.metadata = sealed.next_offset, sealed.metadata


def by_device(events: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        grouped.setdefault(event["device_id"], []).append(event)
    return grouped


def run(kafka: Kafka, seed: int, *, crashes: bool, models: Sequence[Model] = (MODEL,)) -> Kafka:
    """Take the whole log; each life of the consumer has the next of the models."""
    random = np.random.default_rng(seed)
    lives = cycle(models)
    consumer = Consumer(kafka, next(lives))
    while consumer.poll(int(random.integers(1, 40))):
        if random.random() < 0.4:
            consumer.commit()
        if crashes and random.random() < 0.08:
            consumer = Consumer(kafka, next(lives))
    consumer.commit()
    return kafka


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_crashes_at_any_moment_lose_and_repeat_nothing(stream: Stream, seed: int) -> None:
    log = messages(stream)
    expected = run(Kafka(log), seed, crashes=False)
    crashed = run(Kafka(log), seed, crashes=True)
    assert by_device(crashed.events) == by_device(expected.events)
    for events in by_device(crashed.events).values():
        assert [event["step_count"] for event in events] == list(range(1, len(events) + 1))


@given(streams(in_step=True), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_model_that_changes_only_its_name_changes_nothing_else(stream: Stream, seed: int) -> None:
    log = messages(stream)
    expected = run(Kafka(log), seed, crashes=False)
    changed = run(Kafka(log), seed, crashes=True, models=(MODEL, NEXT))
    for event in expected.events + changed.events:
        del event["model"]
    assert by_device(changed.events) == by_device(expected.events)


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
    """The stream with readings and record times that were ahead of the clock when they came."""
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
@settings(max_examples=40, deadline=None)
def test_what_was_ahead_of_the_clock_is_refused_in_a_replay_too(stream: Stream, seed: int) -> None:
    # Messages one by one, so that each is judged by the clock at its own arrival.
    log = glitching(stream, seed)
    arrival_ms = list(np.maximum.accumulate([record.time_ms for record in messages(stream)]))

    def life(crashes_left: int) -> Kafka:
        random = np.random.default_rng(seed)
        kafka = Kafka(log)
        consumer, at = Consumer(kafka), 0
        while at < len(log):
            begin = bisect_left(kafka.offsets, consumer.partition.next_offset)
            at = max(at, begin)
            # What wasn't committed is as if it came now; a replay has to do without its time.
            replays = consumer.partition.is_replaying
            now_us = int(arrival_ms[at if replays else begin]) * 1000
            results = consumer.processor.process([(consumer.partition, [log[begin]])], now_us)
            if not consumer.partition.is_replaying:
                consumer.outbox.seal(results)
            if begin == at:
                at += 1
            if random.random() < 0.3:
                consumer.commit()
            if crashes_left and random.random() < 0.03 and at < len(log):
                consumer, crashes_left = Consumer(kafka), crashes_left - 1
        consumer.commit()
        return kafka

    expected, crashed = life(0), life(4)
    assert by_device(crashed.events) == by_device(expected.events)
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
