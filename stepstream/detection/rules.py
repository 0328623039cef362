"""When readings belong together: the rules on gaps, lateness and idleness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, overload

import numpy as np

from stepstream.detection.columns import first_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Times: TypeAlias = NDArray[np.int64]

__all__ = ["Rules"]

LONGEST_SPAN_MS = 60_000
"""Longest time of a message for which the next message of its device is waited for."""
LONGEST_INTERPOLATED_US = 250_000
"""A longer pause between two readings is a gap, and they aren't joined by a line."""
AGE_MARGIN_MS = 10_000
"""How much older than the idle timeout the oldest reading that a window needs may be."""


class RuleSettings(Protocol):
    """Settings from which rules can be made; times as their names say."""

    @property
    def max_gap_ms(self) -> int: ...
    @property
    def max_lateness_s(self) -> float: ...
    @property
    def idle_timeout_s(self) -> float: ...
    @property
    def sensor_wait_ms(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What opens a new window and what is dropped as late.

    Attributes
    ----------
    max_gap_us
        A longer pause between two readings of a device opens a new window, microseconds. A gap up
        to this length is bridged if enough readings without a gap precede it, see
        `stepstream.detection.bridging`. It is never bridged if the sensors send apart.
    max_lateness_us
        A reading that is not after the last one of its device is late and dropped. One that is
        further back than this means that the clock was set back: it opens a new window.
    idle_timeout_ms
        A device is idle if no reading of it was accepted for longer than this, in stream time,
        and the span of its last message. Its next reading opens a new window.
    sensor_wait_us
        How far the accelerometer of a split device may be ahead of its gyroscope and still waits
        for it, microseconds.
    """

    max_gap_us: int = 1_200_000
    max_lateness_us: int = 600_000_000
    idle_timeout_ms: int = 10_000
    sensor_wait_us: int = 200_000

    @classmethod
    def of(cls, settings: RuleSettings) -> Rules:
        """The rules that settings ask for."""
        return cls(
            max_gap_us=settings.max_gap_ms * 1000,
            max_lateness_us=round(settings.max_lateness_s * 1e6),
            idle_timeout_ms=round(settings.idle_timeout_s * 1000),
            sensor_wait_us=settings.sensor_wait_ms * 1000,
        )

    @property
    def interpolated_us(self) -> int:
        """Longest pause that is no gap."""
        return min(self.max_gap_us, LONGEST_INTERPOLATED_US)

    @property
    def history_ms(self) -> int:
        """How far back readings can matter for later steps, in stream time, milliseconds.

        A window that isn't idle needs readings of the first time, and the pin of `History` may be
        as old as a window that isn't idle.
        """
        awake_ms = self.idle_timeout_ms + LONGEST_SPAN_MS
        return awake_ms + AGE_MARGIN_MS + awake_ms

    @staticmethod
    def spans_ms(message: NDArray[np.intp], time_us: Times) -> Times:
        """Span of the message of each reading.

        A device that has gathered the readings of some time into a message will be silent for as
        long again.

        Parameters
        ----------
        message : (n,) intp
            Number of the message that carried each reading, ascending.
        time_us : (n,) int64
            Times of the readings.

        Returns
        -------
        (n,) int64
            Time from the first reading of the message to its last one, at most a minute,
            milliseconds.
        """
        heads = first_rows(message)
        if len(heads) == len(message):
            return np.zeros(len(message), np.int64)
        last_us, first_us = np.maximum.reduceat(time_us, heads), np.minimum.reduceat(time_us, heads)
        spans = np.minimum((last_us - first_us) // 1000, LONGEST_SPAN_MS)
        return np.repeat(spans, np.diff(heads, append=len(message)))

    @overload
    def is_idle(self, last_ms: int, stream_ms: int) -> bool: ...
    @overload
    def is_idle(self, last_ms: Times, stream_ms: int | Times) -> NDArray[np.bool_]: ...
    def is_idle(self, last_ms: int | Times, stream_ms: int | Times) -> bool | NDArray[np.bool_]:
        """Whether a device is idle.

        Parameters
        ----------
        last_ms : int or (n,) int64
            Stream time at its last reading, and the span of the message added.
        stream_ms : int or (n,) int64
            Stream time now.
        """
        return stream_ms - last_ms > self.idle_timeout_ms

    @overload
    def is_too_old(self, needed_ms: int, stream_ms: int) -> bool: ...
    @overload
    def is_too_old(self, needed_ms: Times, stream_ms: int | Times) -> NDArray[np.bool_]: ...
    def is_too_old(
        self, needed_ms: int | Times, stream_ms: int | Times
    ) -> bool | NDArray[np.bool_]:
        """Whether the next reading opens a new window because the device sends too slowly.

        This is asked only where stream time went on since the device's last reading.

        Parameters
        ----------
        needed_ms : int or (n,) int64
            Stream time at the oldest reading that the window needs, and the span of the device's
            last message added.
        stream_ms : int or (n,) int64
            Stream time now.
        """
        return stream_ms - needed_ms > self.idle_timeout_ms + AGE_MARGIN_MS
