"""Replay of dead letters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from stepstream.streaming import dead_letters
from stepstream.streaming.dead_letters import DeadLetterReplay, Selection
from tests.builders import encode, reading
from tests.kafka.builders import RunProcess, TopicSet
from tests.kafka.test_run import headers_of

if TYPE_CHECKING:
    from pathlib import Path

    from confluent_kafka import Message

BAD = {f"device-{n}".encode(): b"{" for n in range(8)}
TOO_MUCH = encode(reading(accel_x=1e6))


def call(topics: TopicSet, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "stepstream", "replay-dead-letters", *options],
        env={**os.environ, **topics.environment()},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def letters(topics: TopicSet, tmp_path: Path) -> list[Message]:
    """Dead letters of two codes, eight devices each, made by a consumer."""
    topics.produce([*BAD.items(), *[(key, TOO_MUCH) for key in BAD]])
    with RunProcess(topics, tmp_path) as run:
        topics.wait_consumed()
        assert run.terminate() == 0
    found = topics.read(topics.dead_letters)
    assert len(found) == 16
    return found


def contents(messages: list[Message]) -> list[tuple[Any, ...]]:
    return sorted((m.partition(), m.key(), m.value()) for m in messages)


@pytest.mark.usefixtures("letters")
def test_letters_come_back_as_they_were_and_each_once(topics: TopicSet) -> None:
    before = topics.read(topics.readings)
    assert "16 of 16 dead letters would be sent back" in call(topics, "--dry-run")
    assert len(topics.read(topics.readings)) == 16
    said = call(topics, "--code", "invalid-json")
    assert said.startswith("8 of 16 dead letters sent back\n  invalid-json: 8, partition ")
    after = topics.read(topics.readings)
    known = {(m.partition(), m.offset()) for m in before}
    back = [m for m in after if (m.partition(), m.offset()) not in known]
    assert contents(back) == contents([m for m in before if m.value() == b"{"])
    assert not any(m.headers() for m in back)
    assert call(topics, "--code", "invalid-json") == "0 of 0 dead letters sent back\n"
    assert call(topics, "--code", "invalid-json", "--from-start").startswith("8 of 16")


def test_partition_time_and_limit_choose(topics: TopicSet, letters: list[Message]) -> None:
    partitions = [headers_of(letter)["stepstream-partition"].decode() for letter in letters]
    said = call(topics, "--dry-run", "--partition", partitions[0])
    assert said.startswith(f"{partitions.count(partitions[0])} of 16 ")
    now = datetime.now(UTC).isoformat()
    assert call(topics, "--dry-run", "--since", now).startswith("0 of 16")
    assert call(topics, "--dry-run", "--until", now).startswith("16 of 16")
    for count in (5, 5, 5, 1, 0):
        assert call(topics, "--limit", "5").startswith(f"{count} of ")
    assert len(topics.read(topics.readings)) == 32


def test_what_cannot_go_back_is_left_out_and_counted(topics: TopicSet) -> None:
    header = {
        "stepstream-error": "too-large",
        "stepstream-topic": topics.readings,
        "stepstream-partition": "0",
        "stepstream-offset": "7",
        "stepstream-timestamp": "1700000000000",
    }
    producer = Producer({"bootstrap.servers": topics.bootstrap})
    for more in (
        {"stepstream-truncated": "2000000"},
        {"stepstream-topic": "another"},
        {"stepstream-partition": "99"},
        {"stepstream-partition": "x"},
        {"own": "1"},
    ):
        headers: dict[str, str | bytes | None] = {**header, **more}
        producer.produce(topics.dead_letters, b"value", b"key", headers=headers)
    producer.produce(topics.dead_letters, b"value", b"key")
    assert producer.flush(30) == 0
    said = call(topics)
    assert said.splitlines()[:2] == ["1 of 6 dead letters sent back", "  too-large: 1, partition 0"]
    assert sorted(said.splitlines()[2:]) == [
        "  left out, cut: 1",
        "  left out, from another topic: 1",
        "  left out, not written by stepstream: 2",
        "  left out, their partition doesn't exist: 1",
    ]
    (back,) = topics.read(topics.readings)
    assert (back.partition(), back.key(), back.value()) == (0, b"key", b"value")
    assert back.headers() == [("own", b"1")]


@pytest.mark.usefixtures("letters")
def test_an_interrupted_replay_repeats_and_loses_nothing(
    topics: TopicSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "AT_ONCE", 3)
    settings = topics.settings()

    class CrashError(Exception):
        pass

    def crash(times: int) -> Any:
        left = [times]

        def on_progress(_looked_at: int, _total: int) -> None:
            left[0] -= 1
            if not left[0]:
                raise CrashError

        return on_progress

    for times in (1, 2, 1):
        with pytest.raises(CrashError):
            DeadLetterReplay(settings.kafka, settings.topics, Selection()).run(None, crash(times))
    # One that dies within a transaction; its successor ends that at once.
    replay = DeadLetterReplay(settings.kafka, settings.topics, Selection())
    with monkeypatch.context() as patch:
        patch.setattr(dead_letters, "repeat", lambda _call: (_ for _ in ()).throw(CrashError))
        with pytest.raises(CrashError):
            replay.run(None, lambda *_: None)
    last = DeadLetterReplay(settings.kafka, settings.topics, Selection())
    begin_s = time.monotonic()
    last.run(None, lambda *_: None)
    assert time.monotonic() - begin_s < 20
    values = [m.value() for m in topics.read(topics.readings)]
    assert len(values) == 32
    assert values.count(b"{") == 16


def test_a_wrong_code_is_refused(topics: TopicSet) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stepstream", "replay-dead-letters", "--code", "invalid-jsen"],
        env={**os.environ, **topics.environment()},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "invalid-jsen is none of invalid-json, " in done.stderr
