"""What comes of each device: how much, and which ones fell silent."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.detection.slots import grow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.streaming.partitions import Partition

__all__ = ["DeviceTraffic", "Silent"]

PERIOD_US = 10_000_000
"""Readings are counted over so long."""
MAX_SILENT = 10_000
"""Devices without a slot that are remembered; with their keys, 4 MB at most."""


class Silent(NamedTuple):
    """A device that fell silent and lost its slot: its partition, key, and last stream time."""

    partition: Partition
    key: bytes
    last_ms: int


class DeviceTraffic:
    """Readings a second of each slot, and the devices that fell silent last.

    Nothing of this is saved: the next owner of a partition begins anew.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(0, np.int64)
        self._rates = np.zeros(0)
        self._began_us = 0
        self._silent: OrderedDict[tuple[str, int, bytes], Silent] = OrderedDict()

    def note_readings(self, slots: NDArray[np.intp], now_us: int) -> None:
        """Count readings by their devices' slots; they were consumed at this time."""
        if not 0 <= now_us - self._began_us < PERIOD_US:
            self._rates = self._rates_at(now_us)
            self._counts = np.zeros(len(self._counts), np.int64)
            self._began_us = now_us
        if len(slots):
            most = int(slots.max()) + 1
            if most > len(self._counts):
                self._counts = grow(self._counts, max(256, 2 * most))
                self._rates = grow(self._rates, len(self._counts))
            np.add.at(self._counts, slots, 1)

    def rates(self, slots: NDArray[np.intp], now_us: int) -> NDArray[np.float64]:
        """Readings a second of devices, over the last period that is complete."""
        is_over = now_us - self._began_us >= PERIOD_US
        rates = self._rates_at(now_us) if is_over else self._rates
        known = slots < len(rates)
        found = np.zeros(len(slots))
        found[known] = rates[slots[known]]
        return found

    def _rates_at(self, now_us: int) -> NDArray[np.float64]:
        """Rates of the current period, if it ended at this time."""
        return self._counts / (max(PERIOD_US, now_us - self._began_us) / 1e6)

    def begin(self, partition: Partition, key: bytes, slot: int) -> None:
        """A device has got a slot."""
        self.forget(partition, key)
        if slot < len(self._counts):
            self._counts[slot] = 0
            self._rates[slot] = 0

    def note_silent(self, partition: Partition, key: bytes, last_ms: int) -> None:
        """A device loses its slot because nothing came of it."""
        self._silent[partition.topic, partition.number, key] = Silent(partition, key, last_ms)
        if len(self._silent) > MAX_SILENT:
            self._silent.popitem(last=False)

    def forget(self, partition: Partition, key: bytes) -> None:
        """Forget that a device fell silent, if it did."""
        self._silent.pop((partition.topic, partition.number, key), None)

    def forget_all(self, partition: Partition) -> None:
        """Forget the devices of a partition that is released."""
        place = (partition.topic, partition.number)
        for name in [name for name in self._silent if name[:2] == place]:
            del self._silent[name]

    @property
    def silent(self) -> list[Silent]:
        """The devices that fell silent, the longest ago first."""
        return list(self._silent.values())
