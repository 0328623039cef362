"""Each folder of examples/inputs reads its message, and recordings in its form give their steps."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import fastavro
import numpy as np
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from stepstream.cli import main
from stepstream.detection import Model, Rules, default_model_path, detect_series
from stepstream.inputs import MessageWriter
from stepstream.settings import ProcessingSettings, Settings
from tests.builders import load_walk
from tests.conftest import ROOT
from tests.inputs.forms import BATCH, DEVICE, Form, G
from tests.inputs.protobuf_types import compile_set, message_type, new
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


def settings() -> InputSettings:
    return Settings(_env_file="settings.env").input


def message_of(folder: Path) -> Path:
    (path,) = folder.glob("message.*")
    return path


def test_its_message_is_read(
    example: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for line in (example / "settings.env").read_text().splitlines():
        name, value = line.split("=", 1)
        monkeypatch.setenv(name, value.strip("'"))
    assert main(["check", str(message_of(example))]) == 0
    output = capsys.readouterr().out
    assert "0 Hz" in output
    assert "2023-11-14 22:13:20" in output
    assert main(["detect", str(message_of(example))]) == 0


def test_a_recording_in_its_form_gives_the_steps_of_detect(example: Path, recordings: Path) -> None:
    time_s, axes = load_walk(recordings)
    chosen = slice(15 * 80, 40 * 80)
    time_us = EPOCH_US + np.rint(time_s[chosen] * 1e6).astype(np.int64)
    given = settings()
    write, batch = WRITERS.get(example.name, (by_writer, BATCH))
    form = Form(
        lambda rows: write(given, rows),
        given.model_dump(by_alias=True, exclude_unset=True),
        batch,
        encode=bytes,
    )
    rows = form.rows(time_us, axes[chosen].astype(np.float64))
    model = Model(default_model_path())
    expected = detect_series(
        model,
        np.array([row.time_us for row in rows]),
        np.array([(*row.accel, *row.gyro) for row in rows], np.float32),
        Rules.of(ProcessingSettings()),
    )
    found = published(form, model, rows)
    assert len(found) > 25
    ends = [one["ended_at"] for one in found]
    if given.accel_unit == "m/s2":
        assert ends == [end / 1e6 for _, end, *_ in expected.rows()]
    else:
        # Other units are not the same to the last bit.
        assert ends == pytest.approx([end / 1e6 for _, end, *_ in expected.rows()], abs=1e-3)


def by_writer(given: InputSettings, rows: list[Row]) -> bytes:
    """As `simulate` writes messages."""
    times = np.array([row.time_us for row in rows])
    axes = np.array([(*row.accel, *row.gyro) for row in rows])
    (written,) = MessageWriter(given, None).write(DEVICE, times, axes)
    return written.value


def avro(given: InputSettings, rows: list[Row]) -> bytes:
    assert given.schema_ is not None
    samples = [{"at": row.time_us, "acc": row.accel, "gyr": row.gyro} for row in rows]
    content = io.BytesIO()
    fastavro.schemaless_writer(
        content,
        fastavro.parse_schema(json.loads(given.schema_.read_text())),
        {"device": DEVICE, "firmware": None, "samples": samples},
    )
    return content.getvalue()


def protobuf(given: InputSettings, rows: list[Row]) -> bytes:
    descriptor = message_type(
        (FOLDER / "protobuf-wearable/batch.proto").read_text(), str(given.message_type)
    )
    message = new(descriptor, start_ms=rows[0].time_us // 1000, rate_hz=80)
    for row in rows:
        for place, axis in enumerate("xyz"):
            getattr(message.accel, axis).append(row.accel[place] / G)
            getattr(message.gyro, axis).append(np.degrees(row.gyro[place]))
    content: bytes = message.SerializeToString()
    return content


def list_of_objects(_: InputSettings, rows: list[Row]) -> bytes:
    names = ("ax", "ay", "az", "gx", "gy", "gz")
    items: list[dict[str, Any]] = [
        {
            "ts": row.time_us / 1000,
            "values": dict(zip(names, (*row.accel, *row.gyro), strict=True)),
        }
        for row in rows
    ]
    return json.dumps(items).encode()


WRITERS: dict[str, tuple[Any, int]] = {
    "avro-gateway": (avro, BATCH),
    "protobuf-wearable": (protobuf, BATCH),
    "thingsboard": (list_of_objects, BATCH),
}


def test_the_compiled_schema_is_that_of_the_text() -> None:
    folder = FOLDER / "protobuf-wearable"
    sets = [(folder / "batch.desc").read_bytes(), compile_set((folder / "batch.proto").read_text())]
    first, second = (FileDescriptorSet.FromString(content).file[0] for content in sets)
    second.name = first.name
    assert first == second
