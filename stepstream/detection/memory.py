"""What the network remembers of the devices' last hops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import first_rows, rows_by_number
from stepstream.detection.model import Hops

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.model import Model

__all__ = ["Memory"]


class Memory:
    """Rings of vectors, for each device and layer of a network; row i belongs to slot i.

    A vector stands at the place that its hop's absolute index gives, where that of `hops` before
    it stood. All are 0 where a device's window begins.

    Parameters
    ----------
    model
        The network.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        layers, hops, width = model.memory
        self._hops = hops
        self._vectors = np.empty((0, layers * hops, width), np.float32)
        begin = np.arange(layers) * hops
        age = np.arange(hops)
        # By the place of the next hop: where that goes, and what it sees, oldest first.
        self._latest = age[:, np.newaxis] + begin
        order = (age[:, np.newaxis] + age) % hops
        self._past = (order[:, np.newaxis] + begin[:, np.newaxis]).reshape(hops, -1)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        grown = np.zeros((capacity, *self._vectors.shape[1:]), np.float32)
        grown[: len(self._vectors)] = self._vectors
        self._vectors = grown

    def predict(
        self,
        slot: NDArray[np.intp],
        block: NDArray[np.int64],
        blocks: NDArray[np.float32],
        rows: NDArray[np.intp],
        opens: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """Go on by hops of some devices; their probabilities, see `Model.predict`.

        Parameters
        ----------
        slot, block : (n,) intp, (n,) int64
            Devices, and their hops' absolute indices; those of one device stand together, without
            a hole.
        blocks : (m, hop * 8) float32
            Samples, one hop a row.
        rows : (n,) intp
            The rows of ``blocks`` that the hops are.
        opens : (n,) bool
            Whether a hop is the first of its device's window.

        Returns
        -------
        (n, hop, 2) float32
        """
        places, width = self._vectors.shape[1:]
        memory = self._vectors.reshape(-1, width)
        begin, phase = (slot * places)[:, np.newaxis], block % self._hops
        past = self._past.take(phase, axis=0) + begin
        latest = self._latest.take(phase, axis=0) + begin
        result = np.empty((len(slot), self._model.metadata.hop, 2), np.float32)
        for now in _turns(slot):
            self._vectors[slot[now][opens[now]]] = 0
            hops = Hops(blocks, rows[now], memory, past[now], latest[now])
            result[now] = self._model.predict(hops)
        return result


def _turns(slot: NDArray[np.intp]) -> list[slice] | list[NDArray[np.intp]]:
    """Rows in turn: those of a device one after the other, those of several devices together."""
    heads = first_rows(slot)
    if len(heads) == len(slot):
        return [slice(None)]
    lengths = np.diff(heads, append=len(slot))
    return rows_by_number(np.arange(len(slot)) - np.repeat(heads, lengths), int(lengths.max()))
