"""Abnormal starts: refused with what to do, or accepted by a setting."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from stepstream.streaming.topics import create_topics
from tests.faults.driver import Consumer as FaultyProcess
from tests.kafka.broker import JAVA_OPTIONS
from tests.kafka.builders import RunProcess, TopicSet, run_command, wait_until
from tests.kafka.jars import broker_jars
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STEPS_S = 6.0


def lose_readings(topics: TopicSet, admin: AdminClient) -> None:
    topics.produce(walk(8, STEPS_S, batch=20))
    gone = [TopicPartition(topics.readings, p, e) for p, e in topics.committed().items() if e]
    for tp in gone:
        tp.offset += 1
    for future in admin.delete_records(gone).values():
        future.result()


def forget_the_group(topics: TopicSet, admin: AdminClient) -> None:
    for future in admin.delete_consumer_groups([topics.group]).values():
        future.result()


def create_the_topic_anew(topics: TopicSet, admin: AdminClient) -> None:
    """Restores the offsets afterwards: Kafka deletes them with the topic."""
    asked = [ConsumerGroupTopicPartitions(topics.group)]
    offsets = admin.list_consumer_group_offsets(asked)[topics.group].result()
    for future in admin.delete_topics([topics.readings]).values():
        future.result()
    wait_until("no topic", lambda: topics.readings not in admin.list_topics(timeout=10).topics)
    settings = topics.settings()
    create_topics(settings.kafka, settings.topics)
    topics.produce(walk(8, STEPS_S, batch=20))
    admin.alter_consumer_group_offsets([offsets])[topics.group].result()


def commit_beyond_the_end(topics: TopicSet, admin: AdminClient) -> None:
    beyond = [TopicPartition(topics.readings, p, 10_000) for p in range(topics.partitions)]
    request = [ConsumerGroupTopicPartitions(topics.group, beyond)]
    for future in admin.alter_consumer_group_offsets(request).values():
        future.result()


def set_the_offset_back(topics: TopicSet, admin: AdminClient) -> None:
    begin = [TopicPartition(topics.readings, p, 0) for p in range(topics.partitions)]
    request = [ConsumerGroupTopicPartitions(topics.group, begin)]
    for future in admin.alter_consumer_group_offsets(request).values():
        future.result()


def add_partitions(topics: TopicSet, admin: AdminClient) -> None:
    for name in (topics.readings, topics.state):
        for future in admin.create_partitions([NewPartitions(name, 6)]).values():
            future.result()


STARTS: dict[str, tuple[Callable[[TopicSet, AdminClient], None], str]] = {
    "lost-readings": (lose_readings, "were deleted unread"),
    "missing-offset": (forget_the_group, "the group has no committed offset"),
    "recreated-topic": (create_the_topic_anew, "it was created again"),
    "offset-beyond-end": (commit_beyond_the_end, "10000 is committed, the topic ends at"),
    "rewound-offset": (set_the_offset_back, "the group's offset was set back to 0"),
    "changed-partitions": (add_partitions, "the topic had 4 partitions and has 6"),
}


@pytest.mark.parametrize("kind", STARTS)
def test_an_abnormal_start_is_refused_until_a_setting_accepts_it(
    topics: TopicSet, tmp_path: Path, kind: str
) -> None:
    disturb, said = STARTS[kind]
    topics.produce(walk(8, STEPS_S, batch=20))
    with RunProcess(topics, tmp_path, "before") as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    before = topics.read_events()
    assert before
    disturb(topics, AdminClient({"bootstrap.servers": topics.bootstrap}))
    with RunProcess(topics, tmp_path, "refused") as run:
        wait_until("the end of the process", lambda: not run.is_alive)
        assert run.exit_code == 1
        last = run.log.read_text().splitlines()[-1]
    assert said in last
    assert f"add {kind} to processing.accept" in last
    assert topics.read_events() == before
    more = {"STEPSTREAM_PROCESSING__ACCEPT": kind}
    with RunProcess(topics, tmp_path, "accepted", **more) as run:
        run.wait_for_log("; accepted: ")
        run.wait_for_log("partition started")
        topics.produce(walk(8, STEPS_S, batch=20))
        topics.wait_consumed()
        assert run.terminate() == 0
    counts: dict[str, list[int]] = {}
    for event in topics.read_events():
        counts.setdefault(event["device_id"], []).append(event["step_count"])
    if kind != "changed-partitions":
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in counts.values())


def reset_offsets(topics: TopicSet, to: str) -> None:
    """What kafka-consumer-groups.sh does."""
    done = subprocess.run(
        [*("java", *JAVA_OPTIONS, "-cp", f"{broker_jars()}/*"),
         "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
         *("--bootstrap-server", topics.bootstrap, "--group", topics.group),
         *("--topic", topics.readings, "--reset-offsets", "--execute", to)],
        check=True,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert topics.readings in done.stdout, done


def test_kafkas_own_tool_resets_forward_as_before_and_back_only_with_acceptance(
    topics: TopicSet, tmp_path: Path
) -> None:
    topics.produce(walk(8, STEPS_S, batch=20))
    with RunProcess(topics, tmp_path, "before") as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    before = topics.read_events()
    topics.produce(walk(8, STEPS_S, batch=20))
    reset_offsets(topics, "--to-latest")
    with RunProcess(topics, tmp_path, "forward") as run:
        run.wait_for_log("partition started")
        assert run.terminate() == 0
    assert topics.read_events() == before
    reset_offsets(topics, "--to-earliest")
    with RunProcess(topics, tmp_path, "back") as run:
        wait_until("the end of the process", lambda: not run.is_alive)
        assert run.exit_code == 1
        assert "use stepstream backfill" in run.log.read_text().splitlines()[-1]
    more = {"STEPSTREAM_PROCESSING__ACCEPT": "rewound-offset"}
    with RunProcess(topics, tmp_path, "accepted", **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert topics.read_events() == before
    with RunProcess(topics, tmp_path, "again") as run:
        run.wait_for_log("partition started")
        assert run.terminate() == 0


def test_an_accepted_reset_repeats_neither_dead_letters_nor_steps_of_forgotten_devices(
    bootstrap: str, tmp_path: Path
) -> None:
    topics = TopicSet.create(bootstrap, 1, all_outputs=True)

    def published() -> dict[str, int]:
        names = (topics.events, topics.dead_letters, *topics.outputs.values())
        return {name: len(topics.read(name)) for name in names}

    messages = walk(4, 2 * STEPS_S, batch=20)
    half = len(messages) // 2
    with RunProcess(topics, tmp_path, "before") as run:
        topics.produce([*messages[:half], (b"device-0", b"no JSON")])
        topics.wait_consumed()
        assert run_command(topics, tmp_path, "forget", "device-0").returncode == 0
        topics.produce([m for m in messages[half:] if m[0] != b"device-0"])
        topics.wait_consumed()
        assert run.terminate() == 0
    before = published()
    assert before[topics.dead_letters] == 1
    reset_offsets(topics, "--to-earliest")
    more = {"STEPSTREAM_PROCESSING__ACCEPT": "rewound-offset"}
    with RunProcess(topics, tmp_path, "accepted", **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    assert published() == before


def test_offsets_set_back_with_their_metadata_are_noticed_too(
    topics: TopicSet, tmp_path: Path
) -> None:
    topics.produce(walk(8, STEPS_S, batch=20))
    with RunProcess(topics, tmp_path, "before") as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    asked = [ConsumerGroupTopicPartitions(topics.group)]
    found = admin.list_consumer_group_offsets(asked)[topics.group].result()
    for tp in found.topic_partitions or []:
        assert tp.metadata
        tp.offset //= 2
    admin.alter_consumer_group_offsets([found])[topics.group].result()
    with RunProcess(topics, tmp_path, "refused") as run:
        wait_until("the end of the process", lambda: not run.is_alive)
        assert "add rewound-offset to processing.accept" in run.log.read_text().splitlines()[-1]


def test_a_crash_under_at_least_once_is_never_taken_for_a_reset(
    topics: TopicSet, tmp_path: Path
) -> None:
    """A crash after the counts were written and before the offsets."""
    more = {
        "STEPSTREAM_PROCESSING__GUARANTEE": "at_least_once",
        "STEPSTREAM_PROCESSING__POLL_MAX_MESSAGES": "40",
    }
    topics.produce(walk(8, 60.0, batch=20))
    crash = {"FAULT_POINT": "before:Committer.commit_offsets:12:kill"}
    with FaultyProcess(topics, tmp_path, "crashing", **more, **crash) as run:
        wait_until("the crash", lambda: not run.is_alive)
        assert run.exit_code == -signal.SIGKILL
    ahead = 0
    committed = topics.committed()
    for message in topics.read(topics.state):
        record = json.loads(message.value() or b"")
        ahead += record["offset"] >= committed[message.partition() or 0]
    assert ahead
    with RunProcess(topics, tmp_path, "after", **more) as run:
        topics.wait_consumed()
        assert run.terminate() == 0


def test_a_new_group_starts_at_the_first_readings_of_a_time(
    topics: TopicSet, tmp_path: Path
) -> None:
    old = walk(3, STEPS_S, batch=20)
    topics.produce(old[:20])
    sent = topics.read(topics.readings)
    after_ms = max(message.timestamp()[1] for message in sent) + 1
    wait_until("the next millisecond", lambda: time.time_ns() // 1_000_000 > after_ms)
    topics.produce(old[20:])
    everything = topics.read(topics.readings)
    empty = [p for p, end in topics.end_offsets(topics.readings).items() if not end]
    sent_ms = sorted(message.timestamp()[1] for message in everything)
    for name, at_ms in {
        "between": after_ms,
        "amid": sent_ms[len(sent_ms) // 2],
        "before": sent_ms[0] - 1_000,
        "beyond": sent_ms[-1] + 60_000,
    }.items():
        group = replace(topics, group=f"{topics.group}-{name}")
        at = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
        more = {"STEPSTREAM_KAFKA__START_AT": at, "STEPSTREAM_LOGGING__FORMAT": "json"}
        with RunProcess(group, tmp_path, name, **more) as run:
            wait_until("all start", lambda: run.log.read_text().count("partition started") == 4)
            group.wait_consumed()
            assert run.terminate() == 0
        log = run.log.read_text().splitlines()
        lines = [json.loads(line) for line in log if line.startswith("{")]
        starts = {
            int(line["partition"].rpartition("-")[2]): line["offset"]
            for line in lines
            if line["message"] == "partition started"
        }
        expected = dict(topics.end_offsets(topics.readings))
        for message in reversed(everything):
            if message.timestamp()[1] >= at_ms:
                expected[message.partition() or 0] = message.offset() or 0
        assert starts == expected
        assert {starts[p] for p in empty} == ({0} if empty else set())
        assert group.committed() == topics.end_offsets(topics.readings)


def test_readings_deleted_before_a_slow_consumer_came_to_them(
    topics: TopicSet, tmp_path: Path
) -> None:
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    more = {"STEPSTREAM_PROCESSING__ACCEPT": "lost-readings"}
    readings = walk(8, 60.0, batch=20)
    with RunProcess(topics, tmp_path, **more) as run:
        topics.produce(readings[:100])
        topics.wait_consumed()
        run.send(signal.SIGSTOP)
        topics.produce(readings[100:])
        ends = topics.end_offsets(topics.readings)
        gone = [TopicPartition(topics.readings, p, end - 5) for p, end in ends.items() if end]
        for future in admin.delete_records(gone).values():
            future.result()
        run.send(signal.SIGCONT)
        run.wait_for_log("were deleted unread; accepted: ")
        topics.wait_consumed()
        assert run.terminate() == 0
