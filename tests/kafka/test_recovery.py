"""Consumers that are killed and restarted, on a real broker."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.kafka.builders import RunProcess, wait_until
from tests.kafka.played import Played, by_device

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.builders import TopicSet


def test_consumers_killed_in_turn_lose_and_repeat_no_step(
    topics: TopicSet, recordings: Path, tmp_path: Path
) -> None:
    played = Played(topics, recordings, tmp_path / "truth.jsonl")
    quick = {"STEPSTREAM_KAFKA__PROPERTIES": json.dumps({"session.timeout.ms": 6000})}

    def grown(least: int) -> bool:
        return sum(topics.committed().values()) >= least

    names = iter(range(100))
    consumers = [RunProcess(topics, tmp_path, f"run-{next(names)}", **quick) for _ in range(2)]
    try:
        for consumer in consumers:
            consumer.wait_for_log("partition started")
        playing = played.start(speed=40)
        taken = 0
        for _ in range(2):
            wait_until("progress", lambda: grown(taken + 8_000))  # noqa: B023 - called at once
            # Before the kill: if that leaves a transaction open, no answer comes until all is read.
            taken = sum(topics.committed().values())
            consumers.pop(0).kill()
            consumers.append(RunProcess(topics, tmp_path, f"run-{next(names)}", **quick))
        assert playing.wait(120) == 0
        topics.wait_consumed()
        # One that has only just begun would be ended by the signal itself.
        consumers[-1].wait_for_log("started")
        assert [consumer.terminate() for consumer in consumers] == [0, 0]
    finally:
        for consumer in consumers:
            consumer.__exit__()
    assert by_device(topics.read_events()) == played.expected()
