"""After partitions were added, step counts are moved along with their devices."""

from __future__ import annotations

import json
import signal
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, run_command, wait_until
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = 24
MORE = 12
Messages = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def thirds() -> list[Messages]:
    """Messages in three parts, by time."""
    messages = walk(DEVICES, 15.0, batch=20)
    third = len(messages) // 3
    return [messages[:third], messages[third : 2 * third], messages[2 * third :]]


def consume(topics: TopicSet, folder: Path, name: str, messages: Messages, **more: str) -> None:
    with RunProcess(topics, folder, name, **more) as run:
        run.wait_for_log("partition started")
        topics.produce(messages)
        topics.wait_consumed()
        assert run.terminate() == 0


def add_partitions(topics: TopicSet, *names: str) -> TopicSet:
    admin = AdminClient({"bootstrap.servers": topics.bootstrap})
    for name in names or (topics.state, topics.readings, topics.events, topics.dead_letters):
        for future in admin.create_partitions([NewPartitions(name, MORE)]).values():
            future.result()
        wait_until(
            f"more partitions of {name}",
            lambda: len(admin.list_topics(name, 10).topics[name].partitions) == MORE,  # noqa: B023
        )
    return replace(topics, partitions=MORE)


def counts_of(topics: TopicSet) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}
    for event in sorted(topics.read_events(), key=lambda event: event["ended_at"]):
        counts.setdefault(event["device_id"], []).append(event["step_count"])
    return counts


def state_of(topics: TopicSet) -> dict[tuple[str, int], int]:
    """Step count of each device in each state partition."""
    found: dict[tuple[str, int], int] = {}
    for message in topics.read(topics.state):
        place = json.loads(message.key() or b"")[2], message.partition() or 0
        found.pop(place, None)
        value = message.value()
        if value is not None:
            found[place] = json.loads(value)["step_count"]
    return found


def is_refused(topics: TopicSet, folder: Path, name: str) -> None:
    with RunProcess(topics, folder, name) as run:
        wait_until("the end of the process", lambda: not run.is_alive)
        assert run.exit_code == 1
        assert "run stepstream move-counts" in run.log.read_text().splitlines()[-1]


def test_no_count_restarts(topics: TopicSet, tmp_path: Path, thirds: list[Messages]) -> None:
    consume(topics, tmp_path, "before", thirds[0])
    before = counts_of(topics)
    topics = add_partitions(topics)
    is_refused(topics, tmp_path, "refused")
    done = run_command(topics, tmp_path, "move-counts")
    assert done.returncode == 0, done
    moved = Counter(state_of(topics).values())
    assert moved == Counter(counts[-1] for counts in before.values())
    assert f"(4 partitions, now {MORE}): " in done.stdout
    assert f" of {DEVICES} counts moved\n" in done.stdout
    assert "readings in their old partition" not in done.stdout
    consume(topics, tmp_path, "after", thirds[1])
    counts = counts_of(topics)
    assert counts == {d: list(range(1, len(c) + 1)) for d, c in counts.items()}
    assert all(len(counts[device]) > len(before[device]) for device in before)
    places = state_of(topics)
    assert len(places) == len({device for device, _ in places}) == DEVICES
    again = run_command(topics, tmp_path, "move-counts")
    assert again.stdout == f"{topics.readings} ({MORE} partitions): 0 of {DEVICES} counts moved\n"
    assert state_of(topics) == places
    consume(topics, tmp_path, "last", thirds[2])
    counts = counts_of(topics)
    assert counts == {d: list(range(1, len(c) + 1)) for d, c in counts.items()}


KILLED = """
import os, signal, sys
from stepstream.cli import main
from stepstream.streaming import moving

honest, left = moving.repeat, {nth}

def repeat(call):
    global left
    left -= 1
    if left == 0 and {before}:
        os.kill(os.getpid(), signal.SIGKILL)
    honest(call)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

moving.AT_ONCE, moving.repeat = 5, repeat
sys.exit(main(["move-counts"]))
"""


@pytest.mark.parametrize(
    ("nth", "before"),
    [(1, False), (3, True), (3, False), (5, True)],
    ids=["first", "before", "after", "last"],
)
def test_killed_amid_and_repeated_it_moves_each_count_once(
    topics: TopicSet, tmp_path: Path, thirds: list[Messages], nth: int, before: bool
) -> None:
    consume(topics, tmp_path, "before", thirds[0])
    counts = Counter(state_of(topics).values())
    topics = add_partitions(topics)
    killed = run_command(topics, tmp_path, code=KILLED.format(nth=nth, before=before))
    assert killed.returncode == -signal.SIGKILL, killed
    assert Counter(state_of(topics).values()) == counts
    is_refused(topics, tmp_path, "refused")
    done = run_command(topics, tmp_path, "move-counts")
    assert done.returncode == 0, done
    assert Counter(state_of(topics).values()) == counts
    consume(topics, tmp_path, "after", thirds[1])
    found = counts_of(topics)
    assert found == {d: list(range(1, len(c) + 1)) for d, c in found.items()}


def test_steps_that_were_counted_apart_are_added(
    topics: TopicSet, tmp_path: Path, thirds: list[Messages]
) -> None:
    consume(topics, tmp_path, "before", thirds[0])
    topics = add_partitions(topics)
    accept = {"STEPSTREAM_PROCESSING__ACCEPT": "changed-partitions"}
    consume(topics, tmp_path, "apart", thirds[1], **accept)
    events = Counter(event["device_id"] for event in topics.read_events())
    assert len(state_of(topics)) > DEVICES
    done = run_command(topics, tmp_path, "move-counts")
    assert done.returncode == 0, done
    assert {device: count for (device, _), count in state_of(topics).items()} == events
    assert len(state_of(topics)) == DEVICES
    consume(topics, tmp_path, "after", thirds[2])
    for device, counts in counts_of(topics).items():
        after = counts[events[device] :]
        assert after == list(range(events[device] + 1, events[device] + len(after) + 1))


def test_unread_readings_of_moved_devices_are_said_and_counted_by_another_call(
    topics: TopicSet, tmp_path: Path, thirds: list[Messages]
) -> None:
    consume(topics, tmp_path, "before", thirds[0])
    topics.produce(thirds[1])
    topics = add_partitions(topics)
    done = run_command(topics, tmp_path, "move-counts")
    assert done.returncode == 0, done
    assert "devices have readings in their old partition that the group has not read" in done.stdout
    consume(topics, tmp_path, "after", thirds[2])
    events = Counter(event["device_id"] for event in topics.read_events())
    done = run_command(topics, tmp_path, "move-counts")
    assert "readings in their old partition" not in done.stdout
    assert {device: count for (device, _), count in state_of(topics).items()} == events


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_it_refuses_while_consumers_are_in_the_group(
    topics: TopicSet, tmp_path: Path, thirds: list[Messages], protocol: str
) -> None:
    more = {"STEPSTREAM_KAFKA__GROUP_PROTOCOL": protocol}
    with RunProcess(topics, tmp_path, STEPSTREAM_HTTP__PORT=str(free_port()), **more) as run:
        topics.produce(thirds[0])
        topics.wait_consumed()
        done = run_command(topics, tmp_path, "move-counts")
        assert done.returncode == 1
        assert f"consumers are in group {topics.group}: stop all, then" in done.stderr
        assert run.terminate() == 0
    assert run_command(topics, tmp_path, "move-counts").returncode == 0


def test_where_counts_cannot_follow_it_says_why(
    topics: TopicSet, tmp_path: Path, thirds: list[Messages]
) -> None:
    consume(topics, tmp_path, "before", thirds[0])
    state = state_of(topics)
    add_partitions(topics, topics.readings)
    done = run_command(topics, tmp_path, "move-counts")
    assert done.returncode == 1
    assert f"--alter --topic {topics.state} --partitions {MORE}), then run this" in done.stderr
    topics = add_partitions(topics, topics.state)
    for setting, value, said in (
        ("DEVICE_ID", "header:device", "the device id is not the key"),
        ("KEY", "json", "the keys are JSON"),
    ):
        more = {f"STEPSTREAM_INPUT__{setting}": value}
        done = run_command(topics, tmp_path, "move-counts", **more)
        assert done.returncode == 1
        assert said in done.stderr
    assert state_of(topics) == state


def test_producers_with_another_partitioner_are_noticed(topics: TopicSet, tmp_path: Path) -> None:
    messages = walk(DEVICES, 6.0, batch=20)
    topics.produce(messages, partitioner="consistent")
    consume(topics, tmp_path, "counting", [])
    topics = add_partitions(topics)
    done = run_command(topics, tmp_path, "move-counts")
    assert done.returncode == 1
    assert "are where murmur2 never put their keys" in done.stderr
