"""Wrong settings, what is advised, and that it gives the steps of `detect`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stepstream.cli import main
from stepstream.detection import Model, Rules, default_model_path, detect_series
from stepstream.settings import ProcessingSettings, Settings
from tests.builders import load_walk
from tests.inputs.forms import FORMS, NESTED, Form, G, plain
from tests.inputs.test_forms import published

if TYPE_CHECKING:
    from pathlib import Path

    from tests.inputs.forms import Row

EPOCH_US = 1_700_000_000_000_000
PREFIX = "STEPSTREAM_"


def with_axes(row: Row, accel: float = 1.0, gyro: float = 1.0) -> dict[str, Any]:
    values = plain(row)
    return {name: value * {"a": accel, "g": gyro}.get(name[0], 1) for name, value in values.items()}


WRONG = {
    "nested JSON as plain JSON": (FORMS["nested objects"], {}),
    "milliseconds as seconds": (FORMS["integer milliseconds"], {"FIELDS": json.dumps(NESTED)}),
    "seconds as milliseconds": (Form(lambda rows: plain(rows[0]), {}), {"TIME_UNIT": "ms"}),
    "g as m/s^2": (Form(lambda rows: with_axes(rows[0], accel=1 / G), {}), {}),
    "degrees as radians": (Form(lambda rows: with_axes(rows[0], gyro=180 / np.pi), {}), {}),
    "a JSON string as a plain key": (FORMS["a key that is a JSON string"], {}),
    "the id in the value": (FORMS["the id in the value"], {}),
    "a list in a field": (FORMS["objects, a first time and a rate"], {}),
    "sensors apart": (FORMS["items of one sensor each"], {}),
}
"""A form, and the settings of `input` with which it is read first."""


@pytest.fixture(scope="module")
def rows(recordings: Path) -> tuple[np.ndarray, np.ndarray]:
    time_s, axes = load_walk(recordings)
    chosen = slice(15 * 80, 40 * 80)
    time_us = EPOCH_US + np.rint(time_s[chosen] * 1e6).astype(np.int64)
    return time_us, axes[chosen].astype(np.float64)


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = main(["check", *map(str, arguments)])
    return code, capsys.readouterr().out


def advised(output: str) -> dict[str, str]:
    """The environment variables that are printed."""
    lines = [line for line in output.splitlines() if line.startswith((PREFIX, "# without"))]
    given = [line.split("=", 1) for line in lines if "=" in line]
    found = {name: value.strip("'") for name, value in given}
    return found | {line.split()[-1]: "" for line in lines if "=" not in line}


@pytest.mark.parametrize("name", WRONG)
def test_the_advised_settings_give_the_steps_of_detect(
    name: str,
    rows: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    form, present = WRONG[name]
    given = form.rows(*rows)
    path = tmp_path / "messages.txt"
    path.write_bytes(
        b"".join(
            (one.key() or b"null") + b"\t" + (one.value() or b"") + b"\n"
            for one in form.records(given)
        )
    )
    for setting, value in present.items():
        monkeypatch.setenv(f"{PREFIX}INPUT__{setting}", value)
    code, output = check(capsys, path)
    assert code == 1
    for variable, value in advised(output).items():
        if value:
            monkeypatch.setenv(variable, value)
        else:
            monkeypatch.delenv(variable)
    code, output = check(capsys, path)
    assert code == 0, output
    assert output.endswith("\n  all is right\n")
    settings = Settings().input.model_dump(by_alias=True, exclude_unset=True)
    model = Model(default_model_path())
    expected = detect_series(
        model,
        np.array([row.time_us for row in given]),
        np.array([(*row.accel, *row.gyro) for row in given], np.float32),
        Rules.of(ProcessingSettings()),
    )
    found = published(replace(form, settings=settings), model, given)
    assert len(found) > 25
    # Other units are not the same to the last bit.
    ends = [one["ended_at"] for one in found]
    assert ends == pytest.approx([end / 1e6 for _, end, *_ in expected.rows()], abs=1e-3)


def test_what_is_invalid_is_shown_with_a_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mixed.jsonl"
    good = json.dumps({"timestamp": 1.7e9, "accel_x": 0, "accel_y": 9.8, "accel_z": 0})
    path.write_text(f'{good}\n{{"accel_x": 1}}\nnot JSON\n{{"accel_x": 2}}\n')
    code, output = check(capsys, path)
    assert code == 1
    assert "3 of 4 messages" in output
    assert "2 missing-field: accel_y is missing" in output
    assert 'line 2: {"accel_x": 1}' in output
    assert "1 invalid-json: " in output
    assert "no better settings were found: they fit the other messages" in output


def test_a_registry_that_is_away_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "message.bin"
    path.write_bytes(b"\0\0\0\0\x07\x02\x04abc")
    monkeypatch.setenv("STEPSTREAM_INPUT__FORMAT", "avro")
    monkeypatch.setenv("STEPSTREAM_REGISTRY__URL", "http://127.0.0.1:9")
    assert main(["check", str(path)]) == 1
    assert "the schema registry can't be asked: http://127.0.0.1:9" in capsys.readouterr().err
