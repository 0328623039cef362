"""A model that replaces the running one, on a real broker."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from stepstream.detection import Model, default_model_path
from tests.builders import put_model
from tests.kafka.builders import RunProcess, wait_until
from tests.kafka.played import PEOPLE, Played, by_device

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.builders import TopicSet


def test_a_new_model_takes_over_while_people_walk_and_no_step_is_lost_or_repeated(
    topics: TopicSet, recordings: Path, tmp_path: Path
) -> None:
    played = Played(topics, recordings, tmp_path / "truth.jsonl")
    path = tmp_path / "model.tflite"
    put_model(path)
    with RunProcess(topics, tmp_path, STEPSTREAM_MODEL__PATH=str(path)) as run:
        run.wait_for_log("partition started")
        playing = played.start(speed=20)
        wait_until("readings", lambda: sum(topics.end_offsets(topics.readings).values()) >= 15_000)
        playing.send_signal(signal.SIGSTOP)
        wait_until("a step of each", lambda: len(by_device(topics.read_events())) == len(PEOPLE))
        put_model(path, version="9.9")
        run.wait_for_log("model replaced")
        playing.send_signal(signal.SIGCONT)
        assert playing.wait(120) == 0
        topics.wait_consumed()
        assert run.terminate() == 0
    found, expected = by_device(topics.read_events()), played.expected()
    old = Model(default_model_path()).metadata.label
    new = f"{old.rpartition('-')[0]}-9.9"
    for device, steps in expected.items():
        assert [step[:-1] for step in found[device]] == [step[:-1] for step in steps]
        models = [step[-1] for step in found[device]]
        assert sorted(models, key=[old, new].index) == models
        assert len(set(models)) == 2
