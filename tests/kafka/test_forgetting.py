"""Devices are forgotten while consumers run, and whenever they die."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.faults.driver import Consumer as FaultyProcess
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, run_command, wait_until
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from pathlib import Path

DEVICES = 8
SECONDS = 8.0


@pytest.fixture(scope="module")
def halves() -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """Messages before and after devices are forgotten."""
    messages = walk(DEVICES, 2 * SECONDS, batch=20)
    return messages[: len(messages) // 2], messages[len(messages) // 2 :]


def counts_of(topics: TopicSet) -> dict[str, list[int]]:
    events = topics.read_events()
    assert len({event["event_id"] for event in events}) == len(events)
    counts: dict[str, list[int]] = {}
    for event in events:
        counts.setdefault(event["device_id"], []).append(event["step_count"])
    return counts


def runs_of(counts: list[int]) -> int:
    """How often counts begin at 1; within each run they go up by one."""
    assert counts[0] == 1
    assert all(later in {1, count + 1} for count, later in pairwise(counts))
    return counts.count(1)


def latest_records(topics: TopicSet) -> dict[str, bytes | None]:
    records = {}
    for message in topics.read(topics.state):
        records[json.loads(message.key() or b"")[2]] = message.value()
    return records


def test_a_device_is_forgotten_while_a_consumer_runs(
    topics: TopicSet,
    tmp_path: Path,
    halves: tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]],
) -> None:
    before, after = halves
    port = free_port()
    with RunProcess(topics, tmp_path, STEPSTREAM_HTTP__PORT=str(port)) as run:
        topics.produce(before)
        topics.wait_consumed()
        assert fetch(port, "/v1/devices/device-0")[0] == 200
        listed = tmp_path / "devices.txt"
        listed.write_text("device-1\n\ndevice-2\n")
        done = run_command(topics, tmp_path, "forget", "device-0", "--file", str(listed))
        assert (done.returncode, done.stdout) == (0, "forgotten: 3\n"), done
        assert fetch(port, "/v1/devices/device-0")[0] == 404
        assert fetch(port, "/v1/devices/device-3")[0] == 200
        checked = run_command(topics, tmp_path, "check")
        assert (checked.returncode, "dead letter" in checked.stdout) == (0, False), checked
        forgotten = {f"device-{n}" for n in range(3)}
        records = latest_records(topics)
        assert {device for device, value in records.items() if value is None} == forgotten
        topics.produce(after)
        topics.wait_consumed()
        assert run.terminate() == 0
    begun = {device: runs_of(counts) for device, counts in counts_of(topics).items()}
    assert begun == {f"device-{n}": 2 if n < 3 else 1 for n in range(DEVICES)}
    assert not topics.read(topics.dead_letters)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_at_the_commit_that_forgets_changes_nothing(
    topics: TopicSet,
    tmp_path: Path,
    halves: tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]],
    moment: str,
) -> None:
    before, after = halves
    topics.produce(before)
    with RunProcess(topics, tmp_path, "first") as run:
        topics.wait_consumed()
        run.kill()
    done = run_command(topics, tmp_path, "forget", "device-0", "--timeout-s", "0")
    assert done.returncode == 1
    assert "is carried out when a consumer of the group reads it" in done.stderr
    crash = {"FAULT_POINT": f"{moment}:Producer.commit_transaction:1:kill"}
    with FaultyProcess(topics, tmp_path, "crashing", **crash) as run:
        wait_until("the crash", lambda: not run.is_alive)
        assert run.exit_code == -signal.SIGKILL
    if moment == "before":
        assert latest_records(topics)["device-0"] is not None
    with RunProcess(topics, tmp_path, "second") as run:
        topics.wait_consumed()
        run.kill()
    assert latest_records(topics)["device-0"] is None
    with RunProcess(topics, tmp_path, "third") as run:
        topics.produce(after)
        topics.wait_consumed()
        assert run.terminate() == 0
    begun = {device: runs_of(counts) for device, counts in counts_of(topics).items()}
    assert begun == {f"device-{n}": 1 + (n == 0) for n in range(DEVICES)}


def test_what_is_no_device_and_what_is_no_topic_is_said(topics: TopicSet, tmp_path: Path) -> None:
    for arguments, code, said in (
        ((), 2, "name devices, or a file with their ids (--file)"),
        (("x" * 257,), 2, "is no device id: 257 bytes, 1 to 256 expected"),
        (("--file", "missing.txt"), 2, "can't read missing.txt: No such file"),
        (("a", "--topics.readings", "missing"), 1, "there is no topic missing"),
    ):
        done = run_command(topics, tmp_path, "forget", *arguments)
        assert done.returncode == code, done
        assert said in done.stderr
    assert not topics.read(topics.readings)
