"""What ``stepstream run`` writes, from its first line to its last."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.kafka.builders import RunProcess, TopicSet, wait_until
from tests.kafka.test_workers import WorkersRun

if TYPE_CHECKING:
    from pathlib import Path

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
TEXT = re.compile(rf"{TIME} (INFO   |WARNING|ERROR  ) stepstream\.[a-z._]+: \S.*")
JSON = {"STEPSTREAM_LOGGING__FORMAT": "json"}


def objects(run: RunProcess) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert all(re.fullmatch(TIME, line["time"]) for line in lines)
    assert all(list(line)[:4] == ["time", "level", "logger", "message"] for line in lines)
    return lines


def test_a_normal_run_is_quiet_and_every_line_is_one_of_the_log(
    topics: TopicSet, tmp_path: Path
) -> None:
    with RunProcess(topics, tmp_path) as run:
        wait_until("partitions", lambda: run.log.read_text().count("partition started") == 4)
        assert run.terminate() == 0
    lines = run.log.read_text().splitlines()
    assert all(TEXT.fullmatch(line) for line in lines), lines
    assert not re.search("GETPID|BGQUEUE|delegate", "".join(lines))
    # On a busy machine, the Kafka client may have something to warn of.
    told = [line for line in lines if " INFO " in line]
    messages = [re.sub(rf"{TIME} INFO +\S+: (.*?)( \w+=.*)?$", r"\1", line) for line in told]
    assert messages[0] == "started"
    assert set(messages[1:-2]) == {"partition started"}
    assert messages[-2:] == ["partitions released", "stopped"]


def test_with_workers_every_line_is_an_object_and_says_whose_it_is(
    topics: TopicSet, tmp_path: Path
) -> None:
    with WorkersRun(topics, tmp_path) as run:
        run.await_ready()
        assert run.terminate() == 0
    lines = objects(run)
    started = [line for line in lines if line["message"] == "started"]
    assert started[0].get("worker") is None
    assert {line.get("worker") for line in started} == {None, 0, 1}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_last_line_of_a_failed_start_is_its_cause_in_the_format(
    workers: str, topics: TopicSet, tmp_path: Path
) -> None:
    missing = {**JSON, "STEPSTREAM_TOPICS__READINGS": "not-there", "STEPSTREAM_WORKERS": workers}
    with RunProcess(topics, tmp_path, **missing) as run:
        wait_until("the end", lambda: not run.is_alive, 120)
        assert run.exit_code == 1
    last = objects(run)[-1]
    assert (last["level"], last["logger"]) == ("error", "stepstream.commands.run")
    assert "create topics with: stepstream topics" in last["message"]


def test_a_wrong_setting_is_the_only_line(topics: TopicSet, tmp_path: Path) -> None:
    with RunProcess(topics, tmp_path, **JSON, STEPSTREAM_TOPICS__PARTITIONS="none") as run:
        wait_until("the end", lambda: not run.is_alive)
        assert run.exit_code == 2
    (line,) = objects(run)
    assert line["message"].startswith("topics.partitions: ")
