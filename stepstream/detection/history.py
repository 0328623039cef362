"""Where a replay has to begin so that it gives the same later steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.detection.slots import SlotTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.rules import Rules

    Numbers = NDArray[np.int64]

__all__ = ["NO_TIME", "History", "HopBases", "oldest"]

NO_TIME = np.iinfo(np.int64).min
"""Stands for a time that there is not."""


@dataclass(slots=True)
class _Bases(SlotTable):
    """Rings (capacity, hops): the reading that each hop rests on."""

    offset: Numbers
    stream_ms: Numbers


@dataclass(slots=True)
class _Pins(SlotTable):
    """The reading that a replay must not skip (capacity,), see `History.pin`."""

    offset: Numbers
    stream_ms: Numbers
    since_ms: Numbers
    until_ms: Numbers


class HopBases(NamedTuple):
    """The bases of some hops, see `History`; those of one window in the order of time.

    Attributes
    ----------
    row : (h,) intp
        What the hop belongs to, ascending.
    hop : (h,) int64
        Absolute index of the hop.
    offset, stream_ms : (h,) int64
        Input offset of its base, and stream time there.
    """

    row: NDArray[np.intp]
    hop: Numbers
    offset: Numbers
    stream_ms: Numbers


class History:
    """Offset and stream time of the readings that later steps of each device depend on.

    A hop rests on the reading before its first sample, because the sample is interpolated between
    that reading and the next one. The first hop of a window rests on the window's first reading.
    This reading is the *base* of the hop.

    Parameters
    ----------
    rules
        When readings belong together.
    hops
        How many hops before the next one the steps of that one can depend on.
    """

    def __init__(self, rules: Rules, hops: int) -> None:
        self.hops = hops
        self._rules = rules
        self._kept = hops + 1
        self._bases = _Bases(*(np.empty((0, self._kept), np.int64) for _ in range(2)))
        self._pins = _Pins(*(np.empty(0, np.int64) for _ in range(4)))

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots."""
        self._bases.resize(capacity)
        self._pins.resize(capacity)

    def clear(self, slots: NDArray[np.intp]) -> None:
        """Drop the pins of the devices in ``slots``."""
        self._pins.until_ms[slots] = NO_TIME

    def note(self, slot: NDArray[np.intp], hops: HopBases) -> None:
        """Keep the bases of hops; ``slot`` (n,) intp are the devices, see `HopBases.row`."""
        place = (slot[hops.row], hops.hop % self._kept)
        self._bases.offset[place] = hops.offset
        self._bases.stream_ms[place] = hops.stream_ms

    def find_bases(
        self,
        slot: NDArray[np.intp],
        hop: Numbers,
        begin: NDArray[np.intp],
        end: NDArray[np.intp],
        noted: HopBases,
    ) -> tuple[Numbers, Numbers]:
        """Offset and stream time of the base of one earlier hop of each of some windows.

        Parameters
        ----------
        slot : (k,) intp
            Devices.
        hop : (k,) int64
            The hop.
        begin, end : (k,) intp
            The rows of the window in ``noted``, up to where the hop is needed.
        noted
            Bases that are to be kept after this. The hop may be older.
        """
        offset, stream_ms = self.base(slot, hop)
        begins, ends = np.searchsorted(noted.row, begin), np.searchsorted(noted.row, end)
        for place, (first, last) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            at = first + int(np.searchsorted(noted.hop[first:last], hop[place]))
            if at < last and noted.hop[at] == hop[place]:
                offset[place], stream_ms[place] = noted.offset[at], noted.stream_ms[at]
        return offset, stream_ms

    def base(self, slots: NDArray[np.intp], hop: Numbers) -> tuple[Numbers, Numbers]:
        """Offset and stream time of the base of one hop of each device."""
        place = (slots, hop % self._kept)
        return self._bases.offset[place], self._bases.stream_ms[place]

    def bases_ms(self, slot: int, hops: range) -> dict[int, int]:
        """Stream time at the bases of some hops of one device."""
        ring = self._bases.stream_ms[slot]
        return {hop: int(ring[hop % self._kept]) for hop in hops}

    def pin(
        self, slot: int, last: tuple[int, int], stream_ms: int, needed_ms: int, left_ms: int
    ) -> None:
        """Keep the last reading before a new window, because late readings followed it.

        Late readings are late only for a detector that has seen the reading before them. The new
        window doesn't need that reading, but a replay does::

            reading       R          L       L           N
            offset       40         41      42          43
                       accepted    late    late    opens a window
            stream time --+----------+-------+-----------+-------------------+--------->
                                                     stream_ms           until_ms
                                                         '- idle_timeout_ms -'
                                                            and left_ms

            replay from 40:   R is accepted, L and L are late, N opens a window. As before.
            replay from 41:   L is accepted. N is in the window of L, or late. Other steps.

        The window that L opens in such a replay is idle after ``until_ms`` at the latest, if it
        accepts none of the readings from N on. Until a window needs only readings after that time,
        a replay begins at R, the pin.

        Parameters
        ----------
        slot
            The device.
        last
            Offset and stream time of R.
        stream_ms
            Stream time at N.
        needed_ms
            Stream time at the oldest reading that the window of R needs.
        left_ms
            What is left at N of the spans of the messages with the late readings.
        """
        pins = self._pins
        holds = needed_ms <= pins.until_ms[slot]
        # Without this limit, a device that continues like this would keep its first pin forever.
        is_young = not self._rules.is_too_old(int(pins.since_ms[slot]) + left_ms, stream_ms)
        if not (holds and is_young):
            pins.offset[slot], pins.stream_ms[slot] = last
            pins.since_ms[slot] = stream_ms
        pins.until_ms[slot] = stream_ms + self._rules.idle_timeout_ms + left_ms

    def replay_point(
        self,
        slots: NDArray[np.intp],
        hop: Numbers,
        last: tuple[Numbers, Numbers],
        stream_ms: int,
    ) -> tuple[int, int] | None:
        """Oldest input offset that any of these devices needs, and stream time there.

        Parameters
        ----------
        slots : (n,) intp
            Devices with a window.
        hop : (n,) int64
            The oldest hop that each window needs.
        last : (n,) int64, (n,) int64
            Stream time at the last reading of each device, and the span of its message.
        stream_ms
            Stream time now. A window that is too old by then needs nothing.

        Returns
        -------
        tuple of int, or None
            None if no device needs anything.
        """
        offset, needed_ms = self.base(slots, hop)
        last_ms, span_ms = last
        lives = ~self._rules.is_too_old(needed_ms + span_ms, stream_ms) | (last_ms >= stream_ms)
        if not lives.any():
            return None
        return oldest(*self.from_pins(slots[lives], offset[lives], needed_ms[lives]))

    def from_pins(
        self, slots: NDArray[np.intp], offset: Numbers, needed_ms: Numbers
    ) -> tuple[Numbers, Numbers]:
        """Offset and stream time from which each device needs its readings: of the pin, or given.

        Parameters
        ----------
        slots : (n,) intp
            Devices.
        offset, needed_ms : (n,) int64
            Offset and stream time of the oldest reading that each of them needs.
        """
        pins = self._pins
        is_pinned = (needed_ms <= pins.until_ms[slots]) & (pins.offset[slots] < offset)
        return (
            np.where(is_pinned, pins.offset[slots], offset),
            np.where(is_pinned, pins.stream_ms[slots], needed_ms),
        )


def oldest(offset: Numbers, stream_ms: Numbers) -> tuple[int, int]:
    """The lowest of some offsets (at least one), and the stream time there."""
    row = int(offset.argmin())
    return int(offset[row]), int(stream_ms[row])
