"""The examples of examples/inputs through a real broker; those with a schema by a registry, too."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stepstream.cli import main
from stepstream.settings import Settings
from tests.inputs.test_ready_made import EXAMPLES, FOLDER, environment_of, tolerance_s
from tests.kafka.builders import RunProcess, TopicSet
from tests.kafka.played import Played, by_device

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kafka.registry import SchemaRegistry

SCHEMA = "STEPSTREAM_INPUT__SCHEMA"
WALKERS = {"walker-0", "walker-1", "walker-2"}


class Example:
    """An example's settings, and what its README says of `simulate`."""

    def __init__(self, name: str, topics: TopicSet, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = FOLDER / name
        monkeypatch.chdir(self._folder)
        self._monkeypatch = monkeypatch
        self._topics = topics
        self.given = Settings(_env_file="settings.env").input
        self.set(**topics.environment())
        self.set(**environment_of(self._folder))
        if self.given.schema_ is not None:
            self.set(**{SCHEMA: str(self._folder / self.given.schema_)})

    def set(self, **environment: str) -> None:
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)

    @property
    def command(self) -> list[str]:
        """The command of the README that sends messages in this form."""
        lines = (self._folder / "README.md").read_text().splitlines()
        (command,) = [line for line in lines if "stepstream simulate" in line]
        return shlex.split(command)[2:]

    def simulate(self) -> None:
        """Three walkers, as the README says."""
        done = subprocess.run(
            [sys.executable, "-m", "stepstream", "simulate", *self.command],
            check=False,
            capture_output=True,
            text=True,
            env=os.environ,
        )
        assert done.returncode == 0, done.stderr

    def play(self, recordings: Path, folder: Path) -> Played:
        """A recording, in messages like those of the walkers."""
        played = Played(self._topics, recordings, folder / "truth.jsonl", ("person-08",))
        options = [option for option in self.command if option not in {"--devices", "--seconds"}]
        more = options[options.index("--batch") :] if "--batch" in options else []
        assert played.start(0, *more).wait(120) == 0
        return played

    def run(self, played: Played, folder: Path) -> None:
        """Check the messages, run, and compare what is published."""
        assert main(["check"]) == 0
        topics = self._topics
        with RunProcess(topics, folder) as run:
            topics.wait_consumed()
            assert run.terminate() == 0
        assert not topics.read(topics.dead_letters)
        found, expected = by_device(topics.read_events()), played.expected()
        assert found.keys() == expected.keys() | WALKERS
        for device, steps in expected.items():
            ends = [end_us / 1e6 for _, _, end_us, *_ in steps]
            assert [end_us / 1e6 for _, _, end_us, *_ in found[device]] == pytest.approx(
                ends, abs=tolerance_s(self.given), rel=0
            )


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_the_steps_of_detect(
    name: str, topics: TopicSet, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Example(name, topics, monkeypatch)
    example.simulate()
    example.run(example.play(recordings, tmp_path), tmp_path)


@pytest.mark.parametrize("name", ["avro-gateway", "protobuf-wearable"])
def test_an_example_with_a_registry_gives_the_steps_of_detect(
    name: str,
    topics: TopicSet,
    registry: SchemaRegistry,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    example = Example(name, topics, monkeypatch)
    example.set(STEPSTREAM_REGISTRY__URL=registry.url)
    # The first registers the schema of the file, the second takes the newest of the registry.
    example.simulate()
    monkeypatch.delenv(SCHEMA)
    played = example.play(recordings, tmp_path)
    assert registry.client.get_versions(f"{topics.readings}-value") == [1]
    example.run(played, tmp_path)
