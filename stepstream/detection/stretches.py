"""Stretches of readings: what the rules can't divide is handled as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stepstream.detection.columns import first_rows, select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.detection.columns import Readings

__all__ = ["Stretches"]


class Stretches(NamedTuple):
    """Readings of one message of a device, each a short time after the one before it.

    Whatever the rules say of the first of them, the others continue its window. A device that
    sends at a steady rate has one stretch a message.

    Attributes
    ----------
    begin, end : (k,) intp
        Row of the first reading, and the one after that of the last.
    slot : (k,) intp
        The device; those of a device stand together.
    first_us, last_us : (k,) int64
        Times of the first and the last reading.
    offset, stream_ms, span_ms : (k,) int64
        See `Readings`.
    heads, tails : (d,) intp
        The first and the last stretch of each device.
    """

    begin: NDArray[np.intp]
    end: NDArray[np.intp]
    slot: NDArray[np.intp]
    first_us: NDArray[np.int64]
    last_us: NDArray[np.int64]
    offset: NDArray[np.int64]
    stream_ms: NDArray[np.int64]
    span_ms: NDArray[np.int64]
    heads: NDArray[np.intp]
    tails: NDArray[np.intp]

    @classmethod
    def of(
        cls, readings: Readings, longest_us: int, apart: NDArray[np.bool_] | None = None
    ) -> Stretches:
        """The stretches of readings, in which those of a device stand together.

        Parameters
        ----------
        readings
            The n readings.
        longest_us
            Longest time between two readings of a stretch.
        apart : (n,) bool, optional
            Readings that are a stretch of their own.
        """
        time_us, count = readings.time_us, len(readings)
        begin = np.arange(count)
        same_message = readings.offset[1:] == readings.offset[:-1]
        if same_message.any():  # otherwise they are single readings
            pause_us = time_us[1:] - time_us[:-1]
            follows = np.zeros(count, np.bool_)
            follows[1:] = same_message & (readings.slot[1:] == readings.slot[:-1])
            follows[1:] &= (pause_us > 0) & (pause_us <= longest_us)
            if apart is not None:
                follows[apart] = False
            begin = np.flatnonzero(~follows)
        end = np.append(begin, count)[1:]
        slot = select(readings.slot, begin)
        heads = first_rows(slot)
        return cls(
            begin,
            end,
            slot,
            select(time_us, begin),
            select(time_us, end - 1),
            select(readings.offset, begin),
            select(readings.stream_ms, begin),
            select(readings.span_ms, begin),
            heads,
            np.append(heads, len(begin))[1:] - 1,
        )
