"""Arrays with a row for each slot of a detector."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SlotTable", "grow"]

D = TypeVar("D", bound=np.generic)


def grow(array: NDArray[D], capacity: int) -> NDArray[D]:
    """A copy of an array with ``capacity`` rows; memory of the new ones isn't touched."""
    grown = np.zeros((capacity, *array.shape[1:]), array.dtype)
    grown[: len(array)] = array
    return grown


@dataclass(slots=True)
class SlotTable:
    """Arrays in which row i belongs to slot i: a subclass has them as its fields, and no others.

    No array can be forgotten when there are more slots: `resize` grows every field.
    """

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; new rows are 0."""
        for field in fields(self):
            setattr(self, field.name, grow(getattr(self, field.name), capacity))
