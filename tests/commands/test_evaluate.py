from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stepstream.cli import main
from stepstream.detection import default_model_path
from stepstream.simulation.walkers import Walker
from tests.training.builders import write

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 70.0


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """Two sets: a walker with whole steps, and one whose labels say that nobody steps."""
    for origin, seed in (("ours", 1), ("theirs", 2)):
        walker = Walker(seed, 100.0, gyroscope=False)
        time_s, axes = walker.read(SECONDS)
        rows = [
            f"{t:.4f},{x:.4f},{y:.4f},{z:.4f}"
            for t, (x, y, z) in zip(time_s.tolist(), axes[:, :3].tolist(), strict=True)
        ]
        write(tmp_path / origin / "anna", "walk.csv", "time,accel_x,accel_y,accel_z", rows)
        if origin == "ours":
            steps = Walker(seed, 100.0).steps_until(SECONDS)
            marks = [f"{step[0]:.4f},{step[1]:.4f}" for step in steps]
            write(tmp_path / origin / "anna", "walk.steps.csv", "start,end", marks)
        else:
            write(tmp_path / origin / "anna", "walk.contacts.csv", "time,foot", [])
    return tmp_path


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    call = ["evaluate", default_model_path(), *arguments, "--json"]
    assert main([str(argument) for argument in call]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def scores(printed: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["group"], row["name"]): row for row in printed["scores"]}


def test_a_folder_of_sets_is_scored_set_by_set(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scores(evaluate(capsys, sets))
    ours, theirs = rows["set", "ours"], rows["set", "theirs"]
    assert ours["f1_end"] > 0.8
    assert ours["count_error"] < 0.1
    assert theirs["f1_end"] is None
    assert theirs["count_error"] is None
    assert theirs["false_per_minute"] > 60
    assert rows["person", "theirs/anna"]["recordings"] == 1
    assert rows["all", ""]["people"] == 2


def test_only_some_are_scored_and_unknown_names_are_an_error(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = scores(evaluate(capsys, sets, "--only", "ours/anna"))
    assert ("set", "theirs") not in rows
    assert main(["evaluate", str(default_model_path()), str(sets), "--only", "bert"]) != 0
    assert "only: no bert among hand, ours, ours/anna" in capsys.readouterr().err


def test_the_first_second_after_a_gap_is_worse_than_later(
    sets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recalls = {
        (one["since"], one["after_s"]): one
        for one in evaluate(capsys, sets / "ours", "--gap-s", 2)["recall"]
    }
    soon, later = (recalls["start of readings", after_s] for after_s in (1, 8))
    assert soon["ends"] > 0
    assert later["ends"] > soon["ends"]
    assert soon["recall"] < later["recall"]


def test_without_json_there_are_tables(sets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(default_model_path()), str(sets)]) == 0
    printed = capsys.readouterr().out
    for text in ("placement", "theirs/anna", "recall", "worst: ours/anna/walk"):
        assert text in printed
