"""Consumers that are killed and restarted, on a real broker."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from stepstream.cli import main
from tests.kafka.builders import RunProcess, wait_until
from tests.kafka.test_run import by_device, shifted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.kafka.builders import TopicSet


def test_consumers_killed_in_turn_lose_and_repeat_no_step(
    topics: TopicSet,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    people = ("person-08", "person-11", "person-12", "person-17", "person-31")
    files = [min((recordings / "simul-hand" / p).glob("*.csv.gz")) for p in people]
    assert main(["detect", *map(str, files), "--rate", "80"]) == 0
    found = by_device(map(json.loads, capsys.readouterr().out.splitlines()))
    truth = tmp_path / "truth.jsonl"
    for name, value in topics.environment().items():
        monkeypatch.setenv(name, value)
    options = ["--rate", "80", "--speed", "40", "--truth", str(truth)]
    play = [sys.executable, "-m", "stepstream", "simulate", *map(str, files), *options]
    quick = {"STEPSTREAM_KAFKA__PROPERTIES": json.dumps({"session.timeout.ms": 6000})}

    def grown(least: int) -> bool:
        return sum(topics.committed().values()) >= least

    names = iter(range(100))
    consumers = [RunProcess(topics, tmp_path, f"run-{next(names)}", **quick) for _ in range(2)]
    try:
        for consumer in consumers:
            consumer.wait_for_log("partition started")
        playing = subprocess.Popen(play)
        taken = 0
        for _ in range(2):
            wait_until("progress", lambda: grown(taken + 8_000))  # noqa: B023 - called at once
            consumers.pop(0).kill()
            consumers.append(RunProcess(topics, tmp_path, f"run-{next(names)}", **quick))
            taken = sum(topics.committed().values())
        assert playing.wait(120) == 0
        topics.wait_consumed()
        assert [consumer.terminate() for consumer in consumers] == [0, 0]
    finally:
        for consumer in consumers:
            consumer.__exit__()
    shifts = {
        line["device_id"]: line["shift_s"]
        for line in map(json.loads, truth.read_text().split("\n")[:-1])
    }
    assert by_device(topics.read_events()) == {
        device: shifted(steps, shifts[device]) for device, steps in found.items()
    }
