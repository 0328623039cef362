"""`stepstream tail` on a real broker."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from stepstream.inputs import ErrorCode, InvalidMessage
from stepstream.outputs import (
    CountedStep,
    Minute,
    OutputRecord,
    Outputs,
    Walk,
    make_dead_letter,
    make_encodings,
)
from stepstream.streaming import tail as tail_module
from stepstream.streaming.tail import FROM_NOW, TopicTail
from tests.kafka.builders import DEADLINE_S, TopicSet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry

STEP_US = 1_700_000_001_150_000
COLOUR = re.compile(r"\x1b\[[\d;]*3\d")


@pytest.fixture
def topics(bootstrap: str) -> TopicSet:
    return TopicSet.create(bootstrap, all_outputs=True)


def published(
    topics: TopicSet, device: str, number: int, **groups: dict[str, Any]
) -> list[OutputRecord]:
    """One record of each kind, as stepstream makes them."""
    settings = topics.settings(**groups)
    outputs = Outputs(settings.topics, settings.output, make_encodings(settings), "walk-4.1")
    step = CountedStep(
        topics.readings, 3, number, 0, device.encode(), device, number + 1,
        STEP_US - 700_000, STEP_US, 0.93, 0.88,
    )  # fmt: skip
    minute = Minute(device, number, 0, STEP_US // 60_000_000, number + 1, 30_000_000)
    walk = Walk(device, number, 0, STEP_US - 9_000_000, STEP_US, number + 1, 9_000_000)
    letter = make_dead_letter(
        device.encode(),
        b"{",
        [],
        topic=topics.readings,
        partition=3,
        offset=number,
        timestamp_ms=1,
        error=InvalidMessage(ErrorCode.INVALID_JSON, "it ends too early"),
        dead_letter_topic=topics.dead_letters,
    )
    final = outputs.final(topics.readings, 3, [minute, walk])
    return [*outputs.events([step]), *final, *outputs.counts([step]), letter]


class Publisher:
    """A producer with transactions."""

    def __init__(self, topics: TopicSet) -> None:
        self.producer = Producer(
            {
                "bootstrap.servers": topics.bootstrap,
                "transactional.id": f"{topics.group}-publisher",
                "partitioner": "murmur2_random",
            }
        )
        self.producer.init_transactions(DEADLINE_S)

    def produce(self, records: Iterable[OutputRecord]) -> None:
        for record in records:
            self.producer.produce(
                record.topic, record.value, record.key, headers=list(record.headers)
            )
        self.producer.flush(DEADLINE_S)

    def publish(self, records: Iterable[OutputRecord]) -> None:
        self.producer.begin_transaction()
        self.produce(records)
        self.producer.commit_transaction(DEADLINE_S)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "stepstream", "tail", *arguments]


def tailed(topics: TopicSet, *arguments: str, expected: int = 0) -> list[dict[str, Any]]:
    """The JSON lines that it prints until it ends."""
    done = subprocess.run(
        command(*arguments, "--json"),
        env={**os.environ, **topics.environment()},
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stderr) == (expected, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


class Running:
    """A command that goes on; its output goes to files."""

    def __init__(self, topics: TopicSet, folder: Path, *arguments: str) -> None:
        self.out, self.error = folder / "out", folder / "error"
        with self.out.open("wb") as out, self.error.open("wb") as error:
            self.process = subprocess.Popen(
                command(*arguments),
                env={**os.environ, **topics.environment()},
                stdout=out,
                stderr=error,
            )
        self.wait_for("time")

    def wait_for(self, text: str) -> None:
        def written() -> bool:
            assert self.process.poll() is None, self.error.read_text()
            return text in self.out.read_text()

        wait_until(f"{text!r} from tail", written)


@contextmanager
def running(topics: TopicSet, folder: Path, *arguments: str) -> Iterator[Running]:
    one = Running(topics, folder, *arguments)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def test_only_new_events_are_shown_and_ctrl_c_ends_it(topics: TopicSet, tmp_path: Path) -> None:
    publisher = Publisher(topics)
    publisher.publish(published(topics, "old", 0))
    assert topics.read(topics.events)  # its commit is marked by now
    with running(topics, tmp_path) as tail:
        publisher.publish(published(topics, "phone-17", 1233))
        tail.wait_for("phone-17")
        tail.process.send_signal(signal.SIGINT)
        assert tail.process.wait(DEADLINE_S) == 0
        _, _, line = tail.out.read_text().splitlines()
        assert re.fullmatch(
            r"\d\d:\d\d:21\.15  phone-17 +#1,234 +0\.70 s  start 0\.93, end 0\.88", line
        )
        assert not tail.error.read_text()


def test_what_is_aborted_is_not_shown_and_what_is_open_once_it_is_committed(
    topics: TopicSet, tmp_path: Path
) -> None:
    publisher = Publisher(topics)
    publisher.producer.begin_transaction()
    publisher.produce(published(topics, "aborted", 0))
    publisher.producer.abort_transaction(DEADLINE_S)
    publisher.producer.begin_transaction()
    publisher.produce(published(topics, "phone", 0))
    with running(topics, tmp_path) as tail:
        publisher.produce(published(topics, "phone", 1))
        publisher.producer.commit_transaction(DEADLINE_S)
        tail.wait_for("#2")
        text = tail.out.read_text()
        assert "#1" in text
        assert "aborted" not in text
    found = tailed(topics, "--from", "beginning", "--max", "2")
    assert [one["value"]["step_count"] for one in found] == [1, 2]


def test_partitions_that_are_added_are_shown_from_their_start(
    topics: TopicSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail_module, "LOOK_S", 0.1)
    (event, *_) = published(topics, "phone-17", 1)
    assert topics.end_offsets(topics.events)  # there are leaders by now
    with closing(TopicTail(topics.settings().kafka, {topics.events: "step"}, FROM_NOW)) as tail:
        admin = AdminClient({"bootstrap.servers": topics.bootstrap})
        (added,) = admin.create_partitions([NewPartitions(topics.events, 6)]).values()
        added.result()
        producer = Producer({"bootstrap.servers": topics.bootstrap})
        wait_until(
            "the new partition",
            lambda: len(producer.list_topics(topics.events).topics[topics.events].partitions) == 6,
        )
        producer.produce(topics.events, event.value, event.key, partition=5)
        assert producer.flush(30) == 0
        (record,) = wait_until("its record", tail.read)
        assert (record.partition, record.offset) == (5, 0)
        assert record.value == event.value


def test_all_kinds_by_device_and_how_many(topics: TopicSet) -> None:
    publisher = Publisher(topics)
    for number, device in enumerate(["a", "b", "c", "a", "b", "c"]):
        publisher.publish(published(topics, device, number))
    kinds = ["events", "minutes", "walks", "counts", "dead-letters"]
    found = tailed(topics, *kinds, "--from", "beginning", "--max", "30")
    assert sorted((one["what"], one["key"]) for one in found) == sorted(
        (kind, device)
        for kind in ("step", "minute", "walk", "count", "dead-letter")
        for device in "abcabc"
    )
    assert {one["source"]["topic"] for one in found} == {topics.readings}
    letters = [one for one in found if one["what"] == "dead-letter"]
    assert sorted(one["source"]["offset"] for one in letters) == list(range(6))
    assert {(one["error"], one["value"]) for one in letters} == {("invalid-json", "{")}
    for two in (("--device", "a", "--device", "c"), ("--device", "a,c")):
        found = tailed(topics, "walks", "--from", "beginning", *two, "--max", "4")
        assert sorted(one["value"]["steps"] for one in found) == [1, 3, 4, 6]


@pytest.mark.parametrize("written", ["avro", "protobuf"])
def test_other_formats_are_shown_as_json_is(
    topics: TopicSet, registry: SchemaRegistry, written: str
) -> None:
    publisher = Publisher(topics)
    in_json = published(topics, "a", 6)
    groups = {"output": {"format": written}, "registry": {"url": registry.url}}
    publisher.publish(published(topics, "a", 6, **groups))
    kinds = ["events", "minutes", "walks", "counts"]
    found = tailed(topics, *kinds, "--from", "beginning", "--max", "4")
    values = {one["topic"]: one["value"] for one in found}
    assert values == {r.topic: json.loads(r.value or b"") for r in in_json[:4]}


def test_it_begins_at_a_time(topics: TopicSet) -> None:
    publisher = Publisher(topics)
    publisher.publish(published(topics, "a", 0))
    (first,) = topics.read(topics.events)
    begin_ms = first.timestamp()[1] + 1
    wait_until("another millisecond", lambda: time.time_ns() // 1_000_000 >= begin_ms)
    begin = datetime.fromtimestamp(begin_ms / 1000, UTC).isoformat()
    publisher.publish(published(topics, "a", 1))
    publisher.publish(published(topics, "a", 2))
    found = tailed(topics, "--from", begin, "--max", "2")
    assert [one["value"]["step_count"] for one in found] == [2, 3]


def test_a_time_after_the_last_record_shows_what_comes(topics: TopicSet, tmp_path: Path) -> None:
    publisher = Publisher(topics)
    publisher.publish(published(topics, "old", 0))
    assert topics.read(topics.events)
    with running(topics, tmp_path, "--from", "2100-01-01T00:00:00Z") as tail:
        publisher.publish(published(topics, "new", 1))
        tail.wait_for("new")
        assert "old" not in tail.out.read_text()


def test_no_group_is_left_behind(topics: TopicSet) -> None:
    Publisher(topics).publish(published(topics, "a", 0))
    assert len(tailed(topics, "--from", "beginning", "--max", "1")) == 1
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    groups = admin.list_consumer_groups().result().valid
    assert not [group for group in groups if group.group_id.startswith(topics.group)]


@pytest.mark.parametrize("form", ["--no-json", "--json"])
def test_a_reader_that_leaves_ends_it_quietly(topics: TopicSet, form: str) -> None:
    publisher = Publisher(topics)
    publisher.publish(published(topics, "a", 0))
    process = subprocess.Popen(
        command("--from", "beginning", form),
        env={**os.environ, **topics.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stderr as error:
        assert process.stdout.readline()
        process.stdout.close()

        def ended() -> bool:
            publisher.publish(published(topics, "a", 1))
            return process.poll() is not None

        wait_until("tail ended", ended)
        assert (process.returncode, error.read()) == (0, b"")


def test_what_cannot_be_shown_is_said(topics: TopicSet) -> None:
    other = TopicSet.named(topics.bootstrap)
    for missing, arguments, code, text in (
        (other, (), 1, f"there is no topic {other.events} that this user may read"),
        (other, ("minutes",), 2, "topics.minutes is not set, so no minutes are published"),
        (topics, ("steps",), 2, "what.0: Input should be 'events', 'minutes'"),
        (topics, ("--from", "12:00"), 2, "from"),
    ):
        done = subprocess.run(
            command(*arguments),
            env={**os.environ, **missing.environment()},
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == code, done.stderr
        assert text in done.stderr
        assert not done.stdout


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_has_colours_unless_they_are_not_wanted(
    topics: TopicSet, variables: dict[str, str], coloured: bool
) -> None:
    Publisher(topics).publish(published(topics, "a", 0))
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        command("events", "walks", "--from", "beginning", "--max", "2"),
        env={**os.environ, **topics.environment(), "TERM": "xterm-256color", **variables},
        stdout=inner,
        stderr=inner,
    )
    assert process.wait(DEADLINE_S) == 0
    os.close(inner)
    text = os.read(outer, 1 << 16).decode()
    os.close(outer)
    assert "step" in text
    assert bool(COLOUR.search(text)) == coloured
