"""Each folder of examples/inputs reads its message, and recordings in its form give their steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from stepstream.cli import main
from stepstream.detection import Model, Rules, default_model_path, detect_series
from stepstream.inputs import MessageWriter
from stepstream.settings import ProcessingSettings, Settings
from tests.builders import load_walk
from tests.conftest import ROOT
from tests.inputs.forms import BATCH, DEVICE, Form
from tests.inputs.protobuf_types import compile_set
from tests.inputs.test_forms import published

if TYPE_CHECKING:
    from pathlib import Path

    from stepstream.settings import InputSettings
    from tests.inputs.forms import Row

FOLDER = ROOT / "examples" / "inputs"
EXAMPLES = sorted(path.name for path in FOLDER.iterdir())
EPOCH_US = 1_700_000_000_000_000


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an example, as the one in which commands run."""
    folder = FOLDER / str(request.param)
    monkeypatch.chdir(folder)
    return folder


def environment_of(folder: Path) -> dict[str, str]:
    lines = (folder / "settings.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines)
    return {name: value.strip("'") for name, value in given.items()}


def recorded(recordings: Path) -> list[Row]:
    """Half a minute of a recording."""
    time_s, axes = load_walk(recordings)
    chosen = slice(15 * 80, 40 * 80)
    time_us = EPOCH_US + np.rint(time_s[chosen] * 1e6).astype(np.int64)
    return Form(list, {}).rows(time_us, axes[chosen].astype(np.float64))


def detected_ends(model: Model, rows: list[Row]) -> list[float]:
    steps = detect_series(
        model,
        np.array([row.time_us for row in rows]),
        np.array([(*row.accel, *row.gyro) for row in rows], np.float32),
        Rules.of(ProcessingSettings()),
    )
    return [end / 1e6 for _, end, *_ in steps.rows()]


def tolerance_s(given: InputSettings) -> float:
    """Other units are not the same to the last bit."""
    return 0.0 if given.accel_unit == "m/s2" else 1e-3


def message_of(folder: Path) -> Path:
    (path,) = folder.glob("message.*")
    return path


def test_its_message_is_read(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(example).items():
        monkeypatch.setenv(name, value)
    assert main(["check", str(message_of(example))]) == 0
    output = capsys.readouterr().out
    assert "0 Hz" in output
    assert "2023-11-14 22:13:20" in output
    assert main(["detect", str(message_of(example))]) == 0


def test_a_recording_in_its_form_gives_the_steps_of_detect(example: Path, recordings: Path) -> None:
    given, rows = Settings(_env_file="settings.env").input, recorded(recordings)
    write = list_of_objects if example.name == "thingsboard" else by_writer
    form = Form(
        lambda these: write(given, these),
        given.model_dump(by_alias=True, exclude_unset=True),
        BATCH,
        encode=bytes,
    )
    model = Model(default_model_path())
    ends = [one["ended_at"] for one in published(form, model, rows)]
    assert len(ends) > 25
    assert ends == pytest.approx(detected_ends(model, rows), abs=tolerance_s(given), rel=0)


def by_writer(given: InputSettings, rows: list[Row]) -> bytes:
    """As `simulate` writes messages."""
    times = np.array([row.time_us for row in rows])
    axes = np.array([(*row.accel, *row.gyro) for row in rows])
    (written,) = MessageWriter(given, None).write(DEVICE, times, axes)
    return written.value


def list_of_objects(_: InputSettings, rows: list[Row]) -> bytes:
    """What `simulate` doesn't write: several readings there are columns."""
    names = ("ax", "ay", "az", "gx", "gy", "gz")
    items: list[dict[str, Any]] = [
        {
            "ts": row.time_us / 1000,
            "values": dict(zip(names, (*row.accel, *row.gyro), strict=True)),
        }
        for row in rows
    ]
    return json.dumps(items).encode()


def test_the_compiled_schema_is_that_of_the_text() -> None:
    folder = FOLDER / "protobuf-wearable"
    sets = [(folder / "batch.desc").read_bytes(), compile_set((folder / "batch.proto").read_text())]
    first, second = (FileDescriptorSet.FromString(content).file[0] for content in sets)
    second.name = first.name
    assert first == second
