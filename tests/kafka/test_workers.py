"""``stepstream run --workers`` as processes, on a real broker."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from stepstream.streaming.partitioning import partition_of
from tests.kafka.broker import free_port
from tests.kafka.builders import RunProcess, TopicSet, fetch, wait_until
from tests.kafka.played import Played, by_device
from tests.kafka.test_run import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

# On a machine with much else to do, the broker and three processes take a minute to begin.
pytestmark = pytest.mark.timeout(300)
START_S = 120.0

UNNAMED = {
    # Names come from locks.
    "STEPSTREAM_KAFKA__TRANSACTIONAL_ID": None,
    "STEPSTREAM_LOGGING__FORMAT": "json",
}


class WorkersRun(RunProcess):
    """``stepstream run --workers 2``, with HTTP and names of its own."""

    program: ClassVar[tuple[str, ...]] = ("stepstream", "run", "--workers", "2")

    def __init__(
        self, topics: TopicSet, folder: Path, name: str = "run", **more: str | None
    ) -> None:
        self.port = free_port()
        super().__init__(
            topics, folder, name, **UNNAMED, **more, STEPSTREAM_HTTP__PORT=str(self.port)
        )

    def workers(self) -> dict[int, int]:
        """Process id of each worker that runs."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            is_worker = b"stepstream.commands.worker" in command
            if stat[1] == str(self.pid) and stat[0] != "Z" and is_worker:
                found[int(command[-2])] = int(folder.name)
        return found

    def await_ready(self) -> None:
        wait_until(
            "ready workers", lambda: self.is_served() and self.get("/readyz")[0] == 200, START_S
        )

    def await_another(self, number: int, pid: int) -> None:
        """Wait until all workers run, and that of a number is another process than it was."""

        def have_come_back() -> bool:
            now = self.workers()
            return len(now) == 2 and now[number] != pid

        wait_until("the worker again", have_come_back, START_S)

    def is_served(self) -> bool:
        assert self.is_alive, self.log.read_text()
        try:
            return self.get("/livez")[0] == 200
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, str]:
        return fetch(self.port, path)

    def lines(self) -> list[dict[str, Any]]:
        """What was logged."""
        return read_lines(self)

    def names(self) -> list[str]:
        """Transactional ids in the order of the workers' starts."""
        return read_names(self)


def read_lines(run: RunProcess) -> list[dict[str, Any]]:
    # Of a line that is being written, a part may be there.
    whole = run.log.read_text().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def read_names(run: RunProcess) -> list[str]:
    return [line["transactional_id"] for line in read_lines(run) if "transactional_id" in line]


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.fixture(autouse=True)
def _runtime_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


@pytest.fixture
def run(topics: TopicSet, tmp_path: Path) -> Iterator[WorkersRun]:
    with WorkersRun(topics, tmp_path) as started:
        started.await_ready()
        yield started


def test_workers_publish_once_what_detect_finds_though_one_is_killed(
    topics: TopicSet, recordings: Path, tmp_path: Path, run: WorkersRun
) -> None:
    played = Played(topics, recordings, tmp_path / "truth.jsonl")
    playing = played.start(speed=20)
    for number in (0, 1):
        before = run.workers()
        wait_until("events", lambda: sum(topics.end_offsets(topics.events).values()) > 10)
        os.kill(before[number], signal.SIGKILL)
        run.await_another(number, before[number])
        run.await_ready()
    assert playing.wait(120) == 0
    topics.wait_consumed()
    assert run.terminate() == 0
    published = topics.read_events()
    assert by_device(published) == played.expected()
    assert max(Counter(event["event_id"] for event in published).values()) == 1
    starts = [line for line in run.lines() if "transactional_id" in line]
    names = {(line["worker"], line["transactional_id"]) for line in starts}
    assert (len(starts), len(names)) == (4, 2)


def test_one_port_answers_for_all_workers(topics: TopicSet, run: WorkersRun) -> None:
    names = [f"device-{n}" for n in range(12)]
    topics.produce(walk(12, 12.0, batch=20))
    topics.wait_consumed()
    status, text = run.get("/metrics")
    assert status == 200
    readings = dict(re.findall(r'stepstream_readings_total\{worker="(\d)"\} (\S+)', text))
    assert readings.keys() == {"0", "1"}
    assert min(map(float, readings.values())) > 0
    assert 'stepstream_workers{state="running"} 2.0' in text
    owners = {}
    for name in names:
        status, body = run.get(f"/v1/devices/{name}")
        assert status == 200, body
        assert json.loads(body)["partition"] == partition_of(name.encode(), topics.partitions)
        owned = rf'lag_messages\{{partition="{json.loads(body)["partition"]}".*worker="(\d)"'
        owners[name] = re.findall(owned, text)
    assert {number for found in owners.values() for number in found} == {"0", "1"}
    listed = json.loads(run.get("/v1/devices?prefix=device-")[1])["devices"]
    assert sorted(device["device_id"] for device in listed) == sorted(names)
    status, body = run.get("/v1/devices/nobody")
    assert (status, json.loads(body)["error"]) == (404, "unknown-device")


def test_readiness_names_the_worker_that_is_not_ready(run: WorkersRun) -> None:
    os.kill(run.workers()[1], signal.SIGSTOP)
    _, text = wait_until(
        "an unready worker", lambda: found if (found := run.get("/readyz"))[0] == 503 else None
    )
    assert "worker 1: it says nothing for" in text
    assert "worker 0" not in text
    assert run.get("/livez") == (200, "live\n")
    os.kill(run.workers()[1], signal.SIGCONT)
    run.await_ready()


def test_a_worker_that_is_frozen_for_too_long_is_killed_and_started_again(
    topics: TopicSet, tmp_path: Path
) -> None:
    options = {"STEPSTREAM_PROCESSING__STUCK_AFTER_S": "3"}
    with WorkersRun(topics, tmp_path, **options) as run:
        run.await_ready()
        frozen = run.workers()[0]
        os.kill(frozen, signal.SIGSTOP)
        wait_until("its end", lambda: has_ended(frozen))
        run.await_ready()
        assert run.workers()[0] != frozen
        said = [line["message"] for line in run.lines() if line["level"] == "error"]
        assert said == ["worker is stuck, it is killed"]
        assert run.terminate() == 0


def test_the_end_of_the_parent_is_the_end_of_its_workers_and_names_stay(
    topics: TopicSet, tmp_path: Path, run: WorkersRun
) -> None:
    pids = run.workers().values()
    run.kill()
    with WorkersRun(topics, tmp_path, "again") as again:
        wait_until("the end of the workers", lambda: all(map(has_ended, pids)))
        again.await_ready()
        assert sorted(again.names()) == sorted(run.names())
        assert again.terminate() == 0
    stopped = [line for line in run.lines() if line["message"] == "stopped"]
    assert sorted(str(line["worker"]) for line in stopped) == ["0", "1"]


def test_signals_reach_all_workers(run: WorkersRun) -> None:
    def said(message: str) -> set[object]:
        found = [line for line in run.lines() if line["message"] == message]
        return {line.get("worker") for line in found}

    run.send(signal.SIGUSR1)
    wait_until("another level", lambda: said("log level changed") == {None, 0, 1})
    run.send(signal.SIGHUP)
    wait_until("another model", lambda: said("model replaced") == {0, 1})
    changes = len([line for line in run.lines() if line["message"] == "log level changed"])
    os.kill(run.workers()[0], signal.SIGKILL)
    wait_until(
        "the level in the new worker",
        lambda: sum(line["message"] == "log level changed" for line in run.lines()) > changes,
        START_S,
    )
    assert run.terminate() == 0


def test_a_start_that_is_refused_ends_the_parent_with_the_reason(
    topics: TopicSet, tmp_path: Path
) -> None:
    with WorkersRun(topics, tmp_path, STEPSTREAM_TOPICS__READINGS="not-there") as run:
        wait_until("the end of the parent", lambda: not run.is_alive, 30)
        assert run.exit_code == 1
    last = json.loads(run.log.read_text().splitlines()[-1])
    assert last["level"] == "error"
    assert last["message"].startswith("all workers were given up: ")
    assert "stepstream topics" in last["message"]


def test_two_runs_of_workers_on_one_machine_share_no_name(topics: TopicSet, tmp_path: Path) -> None:
    with (
        WorkersRun(topics, tmp_path, "a") as first,
        WorkersRun(topics, tmp_path, "b") as second,
    ):
        first.await_ready()
        second.await_ready()
        names = first.names() + second.names()
        assert len(names) == len(set(names)) == 4
        assert first.terminate() == second.terminate() == 0


def test_two_runs_share_no_name_and_no_port_and_one_has_its_name_again_after_a_kill(
    topics: TopicSet, tmp_path: Path
) -> None:
    options = {**UNNAMED, "STEPSTREAM_HTTP__ADDRESS": "127.0.0.1", "STEPSTREAM_HTTP__PORT": None}

    def name(run: RunProcess) -> str:
        run.wait_for_log("transactional_id")
        return read_names(run)[0]

    with (
        RunProcess(topics, tmp_path, "a", **options) as first,
        RunProcess(topics, tmp_path, "b", **options) as second,
    ):
        names = [name(first), name(second)]
        assert len(set(names)) == 2

        def addresses() -> list[str]:
            # Which of them has the default port depends on which was faster.
            lines = [*read_lines(first), *read_lines(second)]
            return [line["address"] for line in lines if "address" in line]

        (address, *_) = wait_until("another port", addresses)
        port = int(address.rpartition(":")[2])
        wait_until("an answer there", lambda: fetch(port, "/livez")[0] == 200)
        first.kill()
        with RunProcess(topics, tmp_path, "c", **options) as third:
            assert name(third) == names[0]
