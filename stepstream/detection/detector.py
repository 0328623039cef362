"""Readings in, steps out: windows, model and peaks put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stepstream.detection.columns import Steps, first_rows, rows_by_number
from stepstream.detection.memory import Memory
from stepstream.detection.model import CHANNELS
from stepstream.detection.resampling import resample, scale_channels
from stepstream.detection.rules import Rules
from stepstream.detection.steps import Probabilities
from stepstream.detection.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings
    from stepstream.detection.model import Model

    Rows = slice | NDArray[np.intp]
    Observer = Callable[[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]], None]

__all__ = ["Detector"]

ROW_BITS = 32
"""Bits for a reading's row beside its slot in one whole number."""


class Detector:
    """Finds the steps of many devices.

    The steps of a device depend on its own readings only: not on how they were cut into calls,
    nor on other devices in them. What is known of a device derives from the readings of its last
    `horizon_us`.

    Parameters
    ----------
    model
        The network that judges windows.
    rules
        When readings belong together.
    hops_ahead
        Blocks of one hop of a device that are judged together: memory of a device against time.
        A few suit many devices, 256 one long recording.
    on_probabilities
        Called with what the model gave: slots (n,), the index on the grid of the first sample
        (n,), start and end probabilities (n, hop, 2).
    """

    def __init__(
        self,
        model: Model,
        rules: Rules = Rules(),  # noqa: B008 - immutable
        *,
        hops_ahead: int = 4,
        on_probabilities: Observer | None = None,
    ) -> None:
        metadata = model.metadata
        self.model = model
        self._observer = on_probabilities
        self._hop = metadata.hop
        self._hops_ahead = hops_ahead
        self._memory = Memory(model)
        self._delay_blocks = metadata.delay // metadata.hop
        self._probabilities = Probabilities(metadata, hops_ahead)
        # The next block is judged one block after the model gives it, looks back over
        # lookback_blocks, and the oldest of these was given by a window that began so long before.
        history_blocks = self._probabilities.lookback_blocks + metadata.window // metadata.hop
        self.windows = Windows(rules, metadata.period_us, metadata.hop, hops_ahead, history_blocks)
        self.horizon_us = (history_blocks + 1) * metadata.hop * metadata.period_us
        """Age of the oldest reading that can still matter, beyond one pause between readings."""
        self._capacity = 0
        self._free: list[int] = []

    @property
    def device_count(self) -> int:
        """Devices that have a slot."""
        return self._capacity - len(self._free)

    def add_device(self) -> int:
        """Slot for a new device, without a window."""
        if not self._free:
            grown = max(256, self._capacity * 2)
            self.windows.resize(grown)
            self._memory.resize(grown)
            self._probabilities.resize(grown)
            added = np.arange(self._capacity, grown)
            self.windows.clear(added)
            self._free = added[::-1].tolist()
            self._capacity = grown
        return self._free.pop()

    def remove_devices(self, slots: NDArray[np.intp]) -> None:
        """Give slots back; their windows are forgotten."""
        self.windows.clear(slots)
        self._free.extend(slots.tolist())

    def feed(self, readings: Readings) -> Steps:
        """Take readings in the order of arrival; the steps that they complete.

        Parameters
        ----------
        readings
            Of any devices that have a slot, in any interleaving.
        """
        if not len(readings):
            return Steps.none()
        # A stable sort by slot, as a sort of whole numbers: a tenth of what argsort takes.
        keyed = np.sort(readings.slot << ROW_BITS | np.arange(len(readings)))
        admitted = self.windows.admit(readings.take(keyed & ((1 << ROW_BITS) - 1)))
        if not len(admitted.readings):
            return Steps.none()
        samples = resample(
            admitted.readings.time_us,
            admitted.readings.axes,
            admitted.previous_us,
            admitted.previous_axes,
            self.model.metadata.period_us,
        )
        metadata = self.model.metadata
        channels = scale_channels(samples.axes, metadata.accel_scale, metadata.gyro_scale)
        slot = admitted.readings.slot[samples.row]
        block = samples.place // self._hop
        within = samples.place - block * self._hop
        due = np.flatnonzero(within == self._hop - 1)
        first_block = -(-admitted.first_sample[samples.row[due]] // self._hop)
        whole = block[due] >= first_block
        due, first_block = due[whole], first_block[whole]
        offset = admitted.readings.offset[samples.row[due]]
        steps = []
        for written, ends in self._rounds(slot, admitted.window[samples.row], block, due):
            self.windows.write(slot[written], block[written], within[written], channels[written])
            if len(due[ends]):
                at = due[ends]
                steps.append(self._judge(slot[at], block[at], first_block[ends], offset[ends]))
        if len(steps) <= 1:
            return steps[0] if steps else Steps.none()
        found = Steps.concatenate(steps)
        return found.take(np.argsort(found.slot, kind="stable"))

    def _rounds(
        self,
        slot: NDArray[np.intp],
        window: NDArray[np.intp],
        block: NDArray[np.int64],
        due: NDArray[np.intp],
    ) -> list[tuple[Rows, Rows]]:
        """Rows of samples to be written together, so that no block is overwritten before its use.

        A device gets at most ``hops_ahead`` blocks of one window in a round. Windows that ended
        before anything was due, and that another one follows, are left out. Beside the rows of
        samples stand the places of those among them in ``due``.
        """
        heads = first_rows(window)
        if not len(heads):
            return []
        lengths = np.diff(heads, append=len(window))
        tails = heads + lengths - 1
        last = np.diff(slot[heads], append=-1) != 0
        most = (block[tails] - block[heads]) // self._hops_ahead
        if most.max() == 0 and last.all():
            return [(slice(None), slice(None))]
        ahead = (block - np.repeat(block[heads], lengths)) // self._hops_ahead
        is_due = np.zeros(len(window), np.bool_)
        is_due[due] = True
        kept = last | np.logical_or.reduceat(is_due, heads)
        rounds = np.where(kept, most + 1, 0)
        begun = np.cumsum(rounds) - rounds
        devices = first_rows(slot[heads])
        begun -= np.repeat(begun[devices], np.diff(devices, append=len(heads)))
        number = np.where(np.repeat(kept, lengths), ahead + np.repeat(begun, lengths), -1)
        count = int(number.max()) + 1
        return list(
            zip(rows_by_number(number, count), rows_by_number(number[due], count), strict=True)
        )

    def _judge(
        self,
        slot: NDArray[np.intp],
        block: NDArray[np.int64],
        first_block: NDArray[np.int64],
        offset: NDArray[np.int64],
    ) -> Steps:
        """Run the model over these blocks; the steps that they complete."""
        windows, metadata = self.windows, self.model.metadata
        blocks = windows.samples.reshape(-1, self._hop * CHANNELS)
        rows = slot * windows.sample_blocks + block % windows.sample_blocks
        opens = block == first_block
        probabilities = self._memory.predict(slot, block, blocks, rows, opens)
        given = block - self._delay_blocks
        # What is given for samples before the window is of no use.
        own = np.flatnonzero(given >= first_block)
        if len(own) < len(block):
            slot, given, first_block = slot[own], given[own], first_block[own]
            probabilities, offset = probabilities[own], offset[own]
        if self._observer:
            self._observer(slot, given * self._hop, probabilities)
        found = self._probabilities.find(slot, given, first_block, probabilities)
        return Steps(
            slot[found.row],
            found.start * metadata.period_us,
            found.end * metadata.period_us,
            found.start_probability,
            found.end_probability,
            offset[found.row],
        )
