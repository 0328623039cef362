"""How messages are understood with some settings."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.detection.sanity import MIN_PIECES, Verdict, judge, measure_readings
from stepstream.inputs import ACCELEROMETER_BIT, GYROSCOPE_BIT
from stepstream.inspection.decoding import decode_excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from stepstream.inputs import InvalidMessage
    from stepstream.inspection.excerpts import Excerpt
    from stepstream.settings import InputSettings, RegistrySettings

__all__ = ["Timing", "Understanding", "typical", "understand"]

EARLIEST_US = 1_000_000_000_000_000
"""Times before 2001 are of another unit, or count from a device's start."""
MANY = 20
BOTH = ACCELEROMETER_BIT | GYROSCOPE_BIT


class Timing(NamedTuple):
    """Times of the readings of one sensor, over all devices.

    Attributes
    ----------
    rates_hz : (n,) float64
        Typical rate of each device that has two readings or more.
    repeats
        Readings that are not after the reading before, and would be dropped.
    """

    rates_hz: NDArray[np.float64]
    repeats: int


@dataclass(frozen=True)
class Understanding:
    """What messages are with some settings.

    Attributes
    ----------
    total
        Messages looked at.
    invalid
        Why messages would be dead letters, by row.
    device_ids
        Messages of each device, by id.
    split_devices
        Devices that are in more than one partition.
    message : (n,) intp
        Row of the message of each reading.
    time_us : (n,) int64
        Its time.
    behind_s : (n,) float64
        How long before its record it was measured; empty if times of records are not known.
    timings
        By sensors, see `Decoded.sensors`.
    has_gyroscope
        Whether any angular velocity is not 0.
    pieces : (k, 3) float64
        See `measure_readings`.
    """

    total: int
    invalid: Mapping[int, InvalidMessage]
    device_ids: Mapping[str, int]
    split_devices: tuple[str, ...]
    message: NDArray[np.intp]
    time_us: NDArray[np.int64]
    behind_s: NDArray[np.float64]
    timings: Mapping[int, Timing]
    has_gyroscope: bool
    pieces: NDArray[np.float64]

    @property
    def readings(self) -> int:
        """How many there are."""
        return len(self.time_us)

    @property
    def verdict(self) -> Verdict:
        """What the units look like. Few readings are judged as if there were more like them."""
        pieces = self.pieces
        return judge(
            np.resize(pieces, (max(len(pieces), MIN_PIECES), 3)) if len(pieces) else pieces
        )

    @property
    def is_before_2001(self) -> bool:
        """Whether the typical time can't be right."""
        return bool(self.readings) and float(np.median(self.time_us)) < EARLIEST_US

    @property
    def repeats(self) -> int:
        """Readings that would be dropped as late."""
        return sum(timing.repeats for timing in self.timings.values())

    @property
    def is_mostly_repeats(self) -> bool:
        """Whether most readings have the time of another."""
        return self.repeats > self.readings / 2

    @property
    def is_scattered(self) -> bool:
        """Whether hardly any device has two readings: the ids are those of messages."""
        return len(self.device_ids) > MANY and len(self.device_ids) > self.readings / 2

    @property
    def is_right(self) -> bool:
        """Whether nothing looks wrong."""
        return self.readings > 0 and not (
            self.invalid
            or self.verdict.doubts
            or self.is_before_2001
            or self.is_mostly_repeats
            or self.is_scattered
            or self.split_devices
        )

    @property
    def faults(self) -> tuple[int, int]:
        """How much is wrong, to compare settings by: messages, then everything else."""
        silent = 0 if self.readings else self.total
        others = len(self.verdict.doubts) + self.is_before_2001 + self.is_mostly_repeats
        others += self.is_scattered + bool(self.split_devices)
        return len(self.invalid) + silent, others


def understand(
    settings: InputSettings,
    registry: RegistrySettings,
    excerpt: Excerpt,
    now_us: int,
    ahead_us: int,
) -> Understanding:
    """Read messages with some settings.

    Parameters
    ----------
    settings, registry
        How they are written.
    excerpt
        The messages.
    now_us
        The clock, microseconds since the epoch; also the time of records whose time isn't known.
    ahead_us
        How far readings may be ahead of it.

    Raises
    ------
    SettingsError
        A package or a schema that the format needs isn't there.
    RegistryAwayError
        The schema registry can't be asked.
    """
    messages = excerpt.messages
    ids, record_ms, decoded, invalid = decode_excerpt(
        settings, registry, excerpt, now_us + ahead_us, now_us // 1000
    )
    counts: defaultdict[str, int] = defaultdict(int)
    partitions: defaultdict[str, set[int | None]] = defaultdict(set)
    for row, device_id in enumerate(ids):
        if row not in invalid:
            counts[device_id] += 1
            partitions[device_id].add(messages[row].partition)
    known = any(message.record_ms is not None for message in messages)
    behind_s = (record_ms[decoded.message] * 1000 - decoded.time_us) / 1e6
    sensors = decoded.sensors
    if sensors is None:
        sensors = np.full(len(decoded.time_us), BOTH, np.uint8)
    device = np.unique(ids, return_inverse=True)[1][decoded.message] if ids else decoded.message
    return Understanding(
        len(messages),
        invalid,
        dict(counts),
        tuple(name for name, places in partitions.items() if len(places) > 1),
        decoded.message,
        decoded.time_us,
        behind_s if known else np.empty(0),
        _timings(device, decoded.time_us, sensors),
        bool(decoded.axes[:, 3:].any()),
        _pieces(device, decoded.time_us, decoded.axes, sensors),
    )


def _timings(
    device: NDArray[np.intp], time_us: NDArray[np.int64], sensors: NDArray[np.uint8]
) -> dict[int, Timing]:
    found = {}
    for bits in np.unique(sensors).tolist():
        chosen = np.flatnonzero(sensors == bits)
        rates_hz, repeats = [], 0
        for rows in _by_device(device[chosen]):
            between = np.diff(time_us[chosen[rows]])
            ahead = between[between > 0]
            repeats += len(between) - len(ahead)
            if len(ahead):
                # Times in milliseconds are 12 and 13 ms apart at 80 Hz; pauses are left out.
                steady = ahead[ahead < 2 * np.median(ahead)]
                rates_hz.append(1e6 / float(np.mean(steady)))
        found[bits] = Timing(np.array(rates_hz), repeats)
    return found


def _pieces(
    device: NDArray[np.intp],
    time_us: NDArray[np.int64],
    axes: NDArray[np.float32],
    sensors: NDArray[np.uint8],
) -> NDArray[np.float64]:
    """Pieces of all devices; those of sensors apart are put beside each other by their number."""
    parts = []
    for rows in _by_device(device):
        by_time = rows[np.argsort(time_us[rows], kind="stable")]
        accel, gyro = (
            measure_readings(time_us[own], axes[own])
            for own in (
                by_time[(sensors[by_time] & bit).astype(np.bool_)]
                for bit in (ACCELEROMETER_BIT, GYROSCOPE_BIT)
            )
        )
        if len(accel):
            turning = np.resize(gyro[:, 2], len(accel)) if len(gyro) else np.zeros(len(accel))
            parts.append(np.column_stack([accel[:, :2], turning]))
    return np.concatenate(parts) if parts else np.empty((0, 3))


def _by_device(device: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Rows of each device, in their order."""
    order = np.argsort(device, kind="stable")
    cuts = np.flatnonzero(np.diff(device[order])) + 1
    return np.split(order, cuts) if len(order) else []


def typical(numbers: NDArray[np.floating]) -> float:
    """The median; not a number if there are none."""
    return float(np.median(numbers)) if len(numbers) else math.nan
