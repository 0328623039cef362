"""What the network remembers of the devices' last hops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import first_rows
from stepstream.detection.model import LARGEST_BATCH, PROBABILITIES, Hops
from stepstream.detection.slots import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.model import Model, Predict

__all__ = ["Memory"]


class Memory:
    """Rings of vectors, one for each device and layer of a network; row i belongs to slot i.

    The vector of a hop replaces that of ``hops`` before it. All vectors are 0 where a window
    begins.

    Parameters
    ----------
    model
        The network.
    predict
        A function that runs the network, like `Model.predict`.
    """

    def __init__(self, model: Model, predict: Predict) -> None:
        self._predict = predict
        self._hop_samples = model.metadata.hop
        layers, hops, width = model.memory
        self._hops = hops
        self._vectors = np.empty((0, layers * hops, width), np.float32)
        begin = np.arange(layers) * hops
        age = np.arange(hops)
        # For each place that the next hop can have in a ring: the places of its own vectors, and
        # those of the vectors that it sees, oldest first.
        self._latest = age[:, np.newaxis] + begin
        order = (age[:, np.newaxis] + age) % hops
        self._past = (order[:, np.newaxis] + begin[:, np.newaxis]).reshape(hops, -1)

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._vectors = grow(self._vectors, capacity)

    def predict(
        self,
        slot: NDArray[np.intp],
        hop: NDArray[np.int64],
        samples: NDArray[np.float32],
        rows: NDArray[np.intp],
        opens: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """Run the network over hops of some devices; see `Model.predict`.

        Parameters
        ----------
        slot, hop : (n,) intp, (n,) int64
            Devices, and absolute indices of their hops. Rows of one device stand together, hops
            ascending without a hole.
        samples : (m, hop * 8) float32
            Samples of hops, one hop a row.
        rows : (n,) intp
            The rows of ``samples`` that are these hops.
        opens : (n,) bool
            Whether a hop is the first of its window.

        Returns
        -------
        (n, hop, 2) float32
        """
        places, width = self._vectors.shape[1:]
        memory = self._vectors.reshape(-1, width)
        result = np.empty((len(slot), self._hop_samples, PROBABILITIES), np.float32)
        for now in _turns(slot):
            devices, phase = slot[now], hop[now] % self._hops
            begin = (devices * places)[:, np.newaxis]
            self._vectors[devices[opens[now]]] = 0
            past = self._past.take(phase, axis=0) + begin
            latest = self._latest.take(phase, axis=0) + begin
            result[now] = self._predict(Hops(samples, rows[now], memory, past, latest))
        return result


def _turns(slot: NDArray[np.intp]) -> list[slice] | list[NDArray[np.intp]]:
    """Rows of the first hop of each device, then those of the second, and so on.

    As many devices as the network takes at a time come one after the other with all their hops: so
    what it remembers of them stays in the processor's second cache.
    """
    heads = first_rows(slot)
    if len(heads) == len(slot):
        return [slice(None)]
    counts = np.diff(heads, append=len(slot))
    turns = []
    for begin in range(0, len(heads), LARGEST_BATCH):
        first, count = heads[begin : begin + LARGEST_BATCH], counts[begin : begin + LARGEST_BATCH]
        turns += [first[count > turn] + turn for turn in range(int(count.max()))]
    return turns
