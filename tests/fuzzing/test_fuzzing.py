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

RUNS = 1_500
SLOW_RUNS = 600
SLOW = {"process", "avro", "protobuf"}
CORPUS = Path(__file__).with_name("corpus")


def run(module: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        check=False,
        env={"PYTHONPATH": str(ROOT)},
        cwd=cwd,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def targets() -> set[str]:
    """Those that can be tried here."""
    return {name for name in TARGETS if name != "native" or find_native() is not None}


def test_the_compiled_decoder_is_among_them(targets: set[str]) -> None:
    if "native" not in targets:
        missing("stepstream-native, the compiled decoder: make builds it if cargo is there")


@pytest.mark.parametrize("runs", [SLOW_RUNS, RUNS])
def test_no_bytes_break_anything(runs: int, targets: set[str], tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris, the fuzzer, which has no wheel for this machine")
    names = sorted(targets & SLOW if runs == SLOW_RUNS else targets - SLOW)
    fuzzing = run("tests.fuzzing", *names, f"-runs={runs}", "-seed=1", cwd=tmp_path)
    assert fuzzing.returncode == 0, fuzzing.stderr[-3000:]
    executed = re.findall(r"stat::number_of_executed_units: (\d+)", fuzzing.stderr)
    # Each ends what it has begun.
    assert len(executed) == len(names)
    assert min(map(int, executed)) >= runs


def test_no_memory_stays_behind(targets: set[str]) -> None:
    replay = run("tests.fuzzing.replay", *sorted(targets))
    assert replay.returncode == 0, replay.stderr
    grown_kib = dict(line.split() for line in replay.stdout.splitlines())
    assert grown_kib.keys() == targets
    # 1,500 inputs; a KiB of each would be 1,500.
    assert max(map(int, grown_kib.values())) < 1024, grown_kib


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
