from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.slots import SlotTable

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Table(SlotTable):
    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]


def test_every_field_grows_and_keeps_its_rows() -> None:
    table = Table(np.array([5]), np.ones((1, 3), np.float32))
    table.resize(3)
    assert table.numbers.tolist() == [5, 0, 0]
    assert table.vectors.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert table.vectors.dtype == np.float32
