from __future__ import annotations

from pathlib import Path

import pytest

from stepstream.detection import Model, default_model_path
from stepstream.detection.self_test import self_test
from stepstream.errors import ModelError

OLDER = Path(__file__).parents[1] / "faults/stepstream-walk-4.1.tflite"


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


def test_a_file_that_takes_one_hop_at_a_time_is_run_hop_by_hop() -> None:
    model = Model(OLDER)
    assert model.most_hops == 1
    self_test(model)
