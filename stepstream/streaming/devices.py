"""Which device has which slot of the detector, in all partitions that the consumer owns."""

from __future__ import annotations

from itertools import islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.inputs import ErrorCode, InvalidMessage, decode_device_id
from stepstream.streaming.device_traffic import DeviceTraffic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from stepstream.detection import Detector
    from stepstream.streaming.partitions import Partition

__all__ = ["UNKNOWN", "Device", "Devices", "Identified"]

UNKNOWN = -1
"""Slot of a device that has none."""
SWEEP_INTERVAL_MS = 1_000
REPLAY_OFFSET_READINGS = 16
"""The replay offset is computed again after so many readings a device: 0.2 s of them at 80 Hz."""


class Device(NamedTuple):
    """A device with a slot: its partition, the key of its messages, and its id."""

    partition: Partition
    key: bytes
    device_id: str


class Identified(NamedTuple):
    """Devices of messages: ``slots`` (`UNKNOWN` if a device has none), ids, and invalid keys."""

    slots: list[int]
    device_ids: list[str]
    invalid: dict[int, InvalidMessage]


class Devices:
    """Gives slots to devices, and frees the slots of idle devices.

    Parameters
    ----------
    detector
        Whose slots they are.
    max_devices
        Most devices of a partition that have a slot at a time.
    note_split
        Called when a device gets a slot that has one in another partition of the topic, with both
        partitions and its id.
    """

    def __init__(
        self,
        detector: Detector[Any],
        max_devices: int,
        note_split: Callable[[Partition, Partition, str], None] = lambda *_: None,
    ) -> None:
        self._detector = detector
        self._max_devices = max_devices
        self._note_split = note_split
        self._partitions: dict[str, set[Partition]] = {}
        """Partitions in which devices have had slots, by topic."""
        self._devices: dict[int, Device] = {}
        self.traffic = DeviceTraffic()
        self._ids: dict[int, str] = {UNKNOWN: ""}
        self._round: Iterator[int] = iter(())
        self._next_sweep_ms: dict[Partition, int] = {}
        self._readings_since: dict[Partition, int] = {}
        """Readings since the replay offset was computed, or messages without any."""

    def __len__(self) -> int:
        return len(self._devices)

    def __getitem__(self, slot: int) -> Device:
        return self._devices[slot]

    def get(self, slot: int) -> Device | None:
        """The device that has a slot, if one has."""
        return self._devices.get(slot)

    def next_slots(self, most: int) -> list[int]:
        """Slots of some devices, each time of others, until it was the turn of each."""
        slots = list(islice(self._round, most))
        if not slots:
            self._round = iter(list(self._devices))
            slots = list(islice(self._round, most))
        return [slot for slot in slots if slot in self._devices]

    def identify(self, partition: Partition, keys: Sequence[bytes | None]) -> Identified:
        """Find the slots and device ids of messages by their keys."""
        known: Callable[[bytes | None, int], int] = partition.slots.get  # type: ignore[assignment]
        slots = list(map(known, keys, repeat(UNKNOWN)))
        ids = list(map(self._ids.__getitem__, slots))
        invalid: dict[int, InvalidMessage] = {}
        if UNKNOWN in slots:
            for row, slot in enumerate(slots):
                if slot == UNKNOWN:
                    try:
                        ids[row] = decode_device_id(keys[row])
                    except InvalidMessage as error:
                        invalid[row] = error
        return Identified(slots, ids, invalid)

    def add_missing(
        self, partition: Partition, keys: Sequence[bytes | None], identified: Identified
    ) -> None:
        """Give devices of valid messages a slot if they have none, in the order of messages.

        Messages of devices beyond the limit become invalid.
        """
        slots, ids, invalid = identified
        if UNKNOWN not in slots:
            return
        for row, slot in enumerate(slots):
            if slot == UNKNOWN and row not in invalid:
                try:
                    slots[row] = self._slot(partition, keys[row], ids[row])
                except InvalidMessage as error:
                    invalid[row] = error

    def _slot(self, partition: Partition, key: bytes | None, device_id: str) -> int:
        """The slot of a device that had none before this poll."""
        if key is None:
            raise RuntimeError("a device id was decoded from no key")
        slot = partition.slots.get(key)
        if slot is None:
            if len(partition.slots) >= self._max_devices:
                raise InvalidMessage(
                    ErrorCode.DEVICE_LIMIT,
                    f"{len(partition.slots)} devices in this partition, no more are accepted",
                )
            slot = self._detector.add_device()
            partition.slots[key] = slot
            partitions = self._partitions.setdefault(partition.topic, set())
            partitions.add(partition)
            for other in partitions:
                if other is not partition and key in other.slots:
                    self._note_split(other, partition, device_id)
                    break
            self._devices[slot] = Device(partition, key, device_id)
            self._ids[slot] = device_id
            self.traffic.begin(partition, key, slot)
        return slot

    def release_idle(self, partition: Partition, stream_ms: int) -> None:
        """Free the slots of devices that would open a new window anyway; once a second."""
        if stream_ms < self._next_sweep_ms.get(partition, 0):
            return
        self._next_sweep_ms[partition] = stream_ms + SWEEP_INTERVAL_MS
        if partition.slots:
            idle = self._detector.find_idle(_slots(partition), stream_ms)
            if len(idle):
                last_ms = self._detector.newest(idle).stream_ms.tolist()
                for slot, its_last_ms in zip(idle.tolist(), last_ms, strict=True):
                    self.traffic.note_silent(partition, self._devices[slot].key, its_last_ms)
                self._release(partition, idle)

    def release(self, partition: Partition, key: bytes) -> None:
        """Free a device's slot, if it has one."""
        slot = partition.slots.get(key)
        if slot is not None:
            self._release(partition, np.array([slot], np.intp))
        self.traffic.forget(partition, key)

    def release_all(self, partition: Partition) -> None:
        """Free the slots of all devices of a partition that is released."""
        self._release(partition, _slots(partition))
        self.traffic.forget_all(partition)
        self._partitions.get(partition.topic, set()).discard(partition)
        self._next_sweep_ms.pop(partition, None)
        self._readings_since.pop(partition, None)

    def _release(self, partition: Partition, slots: NDArray[np.intp]) -> None:
        for slot in slots.tolist():
            del partition.slots[self._devices.pop(slot).key], self._ids[slot]
        self._detector.remove_devices(slots)

    def note_readings(self, partition: Partition, count: int) -> None:
        """Note that readings were processed: the replay offset grows with them."""
        self._readings_since[partition] = self._readings_since.get(partition, 0) + count

    def update_replay_offset(self, partition: Partition) -> None:
        """Compute the replay offset again, if enough readings have come.

        It is computed so seldom that it costs little compared with the readings themselves. A lower
        offset is also correct: a replay from there is only longer.
        """
        if self._readings_since.get(partition, 0) < len(partition.slots) * REPLAY_OFFSET_READINGS:
            return
        self._readings_since[partition] = 0
        needed = self._detector.replay_point(_slots(partition), partition.time.ms)
        partition.replay_from = needed or (partition.next_offset, partition.time.ms)


def _slots(partition: Partition) -> NDArray[np.intp]:
    return np.fromiter(partition.slots.values(), np.intp, len(partition.slots))
