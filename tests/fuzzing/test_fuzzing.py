"""The short form of ``make fuzz``."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stepstream.native import find_native
from stepstream.outputs import Event
from tests.conftest import ROOT, missing
from tests.fuzzing.schema_formats import schema_formats
from tests.fuzzing.targets import END, SHAPED, TARGETS, open_and_decode, process

RUNS = {"decode": 3_000, "process": 600, "avro": 600, "protobuf": 600}
OTHER_RUNS = 1_500
CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_break_anything(target: str, tmp_path: Path) -> None:
    if target == "native" and find_native() is None:
        missing("stepstream-native, the compiled decoder: make builds it if cargo is there")
    if importlib.util.find_spec("atheris") is None:
        missing("atheris, the fuzzer, which has no wheel for this machine")
    runs = RUNS.get(target, OTHER_RUNS)
    options = [f"-runs={runs}", "-seed=1"]
    fuzzing = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", target, *options],
        check=False,
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert fuzzing.returncode == 0, fuzzing.stderr[-3000:]
    (executed,) = re.findall(r"stat::number_of_executed_units: (\d+)", fuzzing.stderr)
    # It ends what it has begun.
    assert int(executed) >= runs


@pytest.mark.parametrize("target", TARGETS)
def test_no_memory_stays_behind(target: str) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing.replay", target],
        check=True,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    # 1,500 inputs; a KiB of each would be 1,500.
    assert int(run.stdout) < 1024


@pytest.mark.parametrize("name", SHAPED)
def test_the_fuzzer_begins_with_a_valid_message_of_each_shape(name: str) -> None:
    seeds = [path.read_bytes() for path in sorted(CORPUS.glob(f"{name}-[0-9]"))]
    assert [seed[0] for seed in seeds] == list(range(len(SHAPED[name])))
    for seed in seeds:
        decoded = open_and_decode(SHAPED[name][seed[0]], seed[1:].split(END))
        assert len(decoded.message)
        assert not decoded.invalid


@pytest.mark.parametrize("name", schema_formats())
def test_the_fuzzer_begins_with_a_valid_message_of_each_schema(name: str) -> None:
    seeds = [path.read_bytes() for path in sorted(CORPUS.glob(f"{name}-[0-9]"))]
    examples = [made.example for made in schema_formats()[name]]
    assert [(seed[0], seed[1:]) for seed in seeds] == list(enumerate(examples))


def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Event.of

    def without_length(*step: Any) -> Event:
        device_id, count, _, end_us, *rest = step
        return honest(device_id, count, end_us, end_us, *rest)

    monkeypatch.setattr(Event, "of", without_length)
    with pytest.raises(AssertionError):
        process((CORPUS / "steps").read_bytes())
