from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stepstream.detection import Model, ModelMetadata, default_model_path, self_test
from stepstream.detection.model import Hops, MemoryShape
from stepstream.errors import ModelError
from stepstream.settings import ModelSettings
from stepstream.streaming import reloading
from stepstream.streaming.reloading import ModelFile
from tests.builders import put_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_INTERVAL_S", 0.0)


def test_a_changed_file_gives_a_new_model_once(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    put_model(path)
    file = ModelFile(ModelSettings(path=path))
    running = file.load()
    assert file.look(running) is None
    put_model(path, version="9.9", end_threshold=0.4)
    taken = file.look(running)
    assert taken is not None
    assert taken.metadata.label.endswith("-9.9")
    assert file.look(taken) is None


def test_an_unchanged_file_is_loaded_again_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    put_model(path)
    file = ModelFile(ModelSettings(path=path))
    running = file.load()
    file.ask()
    assert file.look(running) is not None
    assert file.look(running) is None


def test_a_file_that_is_not_watched_is_loaded_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    put_model(path)
    file = ModelFile(ModelSettings(path=path, watch=False))
    running = file.load()
    put_model(path, version="9.9")
    assert file.look(running) is None
    file.ask()
    assert file.look(running) is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"window": 136}, "it sees 16 hops"),
        ({"start_threshold": 0.999}, "self-test"),
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
    put_model(path)
    file = ModelFile(ModelSettings(path=path))
    running = file.load()
    if change:
        put_model(path, **change)
    elif change is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    assert file.look(running) is None
    assert reason in caplog.text
    caplog.clear()
    assert file.look(running) is None
    assert not caplog.text
    put_model(path, version="2.2")
    assert file.look(running) is not None


class Constant(Model):
    """Gives one value for every sample."""

    def __init__(self, metadata: ModelMetadata, value: float) -> None:
        self.metadata, self.memory, self.most_hops = metadata, MemoryShape(1, 15, 1), 1
        self._value = value

    def predict(self, hops: Hops) -> NDArray[np.float32]:
        return np.full((*hops.rows.shape, self.metadata.hop, 2), self._value, np.float32)


def test_the_self_test_wants_probabilities_and_steps_where_somebody_walks() -> None:
    shipped = Model(default_model_path())
    self_test(shipped)
    for value in (np.nan, 1.5, 0.0):
        with pytest.raises(ModelError, match="self-test"):
            self_test(Constant(shipped.metadata, value))
