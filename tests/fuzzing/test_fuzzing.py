"""The short form of ``make fuzz``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, missing
from tests.fuzzing.targets import TARGETS, process

RUNS = {"decode": 3_000, "layouts": 3_000, "process": 600, "schemas": 1_000}
CORPUS = Path(__file__).with_name("corpus")


@pytest.mark.parametrize("target", TARGETS)
def test_no_bytes_break_anything(target: str, tmp_path: Path) -> None:
    if importlib.util.find_spec("atheris") is None:
        missing("atheris, the fuzzer, which has no wheel for this machine")
    options = [f"-runs={RUNS[target]}", "-seed=1"]
    fuzzing = subprocess.run(
        [sys.executable, "-m", "tests.fuzzing", target, *options],
        check=False,
        env={"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert fuzzing.returncode == 0, fuzzing.stderr[-3000:]
    assert f"stat::number_of_executed_units: {RUNS[target]}" in fuzzing.stderr


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


def test_a_mistake_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepstream.outputs.outputs.encode_value", lambda _: b"{}")
    with pytest.raises(KeyError):
        process((CORPUS / "steps").read_bytes())
