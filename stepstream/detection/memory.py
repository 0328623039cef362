"""What the network remembers of the devices' last hops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import first_rows
from stepstream.detection.model import LARGEST_BATCH, PROBABILITIES, Hops
from stepstream.detection.slots import grow

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        self._most_hops = model.most_hops
        layers, hops, width = model.memory
        self._hops = hops
        self._vectors = np.empty((0, layers * hops, width), np.float32)
        self._layers = np.arange(layers)[:, np.newaxis] * hops
        # For each place that the next hop can have in a ring: the places of the vectors that it
        # sees, oldest first.
        age = np.arange(hops)
        order = (age[:, np.newaxis] + age) % hops
        self._past = (order[:, np.newaxis] + self._layers).reshape(hops, -1)

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
        for now in self._turns(slot):
            first, at_once = now[:, 0], now.shape[1]
            devices, place = slot[first], hop[first] % self._hops
            begin = (devices * places)[:, np.newaxis]
            self._vectors[devices[opens[first]]] = 0
            past = self._past.take(place, axis=0) + begin
            # Of more hops than a ring has, the last ones stay.
            stored = np.arange(max(0, at_once - self._hops), at_once)
            latest = (place[:, np.newaxis] + stored) % self._hops + begin
            latest = latest[:, np.newaxis] + self._layers
            result[now] = self._predict(Hops(samples, rows[now], memory, past, latest))
        return result

    def _turns(self, slot: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
        """Rows (n, k) of the next k hops of n devices each, until all had their turn.

        As many devices as the network takes at a time come one after the other with all their
        hops: so what it remembers of them stays in the processor's second cache.
        """
        heads = first_rows(slot)
        if len(heads) == len(slot):
            yield heads[:, np.newaxis]
            return
        counts = np.diff(heads, append=len(slot))
        for begin in range(0, len(heads), LARGEST_BATCH):
            row, left = heads[begin : begin + LARGEST_BATCH], counts[begin : begin + LARGEST_BATCH]
            at_once = self._most_hops
            while len(row):
                while not (has_turn := left >= at_once).any():
                    at_once //= 2
                yield row[has_turn, np.newaxis] + np.arange(at_once)
                row, left = row + at_once * has_turn, left - at_once * has_turn
                row, left = row[left > 0], left[left > 0]
