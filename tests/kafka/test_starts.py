"""Abnormal starts: refused with what to do, or accepted by a setting."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from stepstream.streaming.topics import create_topics
from tests.kafka.builders import RunProcess, TopicSet, wait_until
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


def add_partitions(topics: TopicSet, admin: AdminClient) -> None:
    for name in (topics.readings, topics.state):
        for future in admin.create_partitions([NewPartitions(name, 6)]).values():
            future.result()


STARTS: dict[str, tuple[Callable[[TopicSet, AdminClient], None], str]] = {
    "lost-readings": (lose_readings, "were deleted unread"),
    "missing-offset": (forget_the_group, "the group has no committed offset"),
    "recreated-topic": (create_the_topic_anew, "it was created again"),
    "offset-beyond-end": (commit_beyond_the_end, "10000 is committed, the topic ends at"),
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
