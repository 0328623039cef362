from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stepstream.detection import Model, default_model_path
from stepstream.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "instead", "reason"),
    [
        (b"past", b"pose", "its inputs are named samples, pose, expected samples and past"),
        (b"Identity_1", b"Identity_2", "its outputs are named Identity, Identity_2, expected"),
    ],
)
def test_tensors_of_other_names_are_refused(
    tmp_path: Path, name: bytes, instead: bytes, reason: str
) -> None:
    content = default_model_path().read_bytes()
    assert name in content
    path = tmp_path / "model.tflite"
    path.write_bytes(content.replace(name, instead))
    with pytest.raises(ModelError, match=reason):
        Model(path)
