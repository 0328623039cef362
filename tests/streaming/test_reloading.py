from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stepstream.detection import Detector, Model, ModelMetadata, default_model_path, self_test
from stepstream.detection.model import METADATA_FILE
from stepstream.errors import ModelError
from stepstream.settings import ModelSettings
from stepstream.streaming import reloading
from stepstream.streaming.reloading import ModelFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_INTERVAL_S", 0.0)


def put(path: Path, **changes: object) -> None:
    """Put the shipped model there, with another metadata, as a deployment would: in one step."""
    metadata = msgspec.structs.replace(Model(default_model_path()).metadata, **changes)
    content = default_model_path().read_bytes()
    beside = path.with_suffix(".new")
    beside.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with zipfile.ZipFile(beside, "a") as archive:
        archive.writestr(METADATA_FILE, msgspec.json.encode(metadata))
    beside.replace(path)


def test_a_changed_file_gives_a_new_model_once(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    put(path)
    file = ModelFile(ModelSettings(path=path))
    running = file.load()
    assert file.look(running) is None
    put(path, version="9.9", end_threshold=0.4)
    taken = file.look(running)
    assert taken is not None
    assert taken.metadata.label.endswith("-9.9")
    assert file.look(taken) is None


def test_an_unchanged_file_is_loaded_again_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    put(path)
    file = ModelFile(ModelSettings(path=path))
    running = file.load()
    file.ask()
    assert file.look(running) is not None
    assert file.look(running) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"delay": 16}, "its delay is 16"),
        ({"end_threshold": 0.999}, "self-test"),
        ({}, "no metadata"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_is_refused_and_the_old_model_goes_on(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object] | None,
    reason: str,
) -> None:
    path = tmp_path / "model.tflite"
    put(path)
    file = ModelFile(ModelSettings(path=path))
    running = file.load()
    if change:
        put(path, **change)
    elif change is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    assert file.look(running) is None
    assert reason in caplog.text
    caplog.clear()
    assert file.look(running) is None
    assert not caplog.text
    put(path, version="2.2")
    assert file.look(running) is not None


class Constant(Model):
    """Gives one value for every sample."""

    def __init__(self, metadata: ModelMetadata, value: float) -> None:
        self.metadata = metadata
        self._value = value

    def predict(self, _: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return np.full((len(rows), self.metadata.hop, 2), self._value, np.float32)


def test_the_self_test_wants_probabilities_and_steps_where_somebody_walks() -> None:
    shipped = Model(default_model_path())
    self_test(shipped)
    for value in (np.nan, 1.5, 0.0):
        with pytest.raises(ModelError, match="self-test"):
            self_test(Constant(shipped.metadata, value))


def test_a_detector_goes_on_with_another_model_in_the_same_windows() -> None:
    model = Model(default_model_path())
    detector = Detector(model)
    stricter = msgspec.structs.replace(model.metadata, end_threshold=0.9)
    detector.replace_model(Constant(stricter, 0.0))
    assert detector.model.metadata.end_threshold == 0.9
    with pytest.raises(ModelError, match="its window is"):
        detector.replace_model(
            Constant(msgspec.structs.replace(model.metadata, window=64, delay=8), 0.0)
        )
