"""Stream time of a partition, and which readings are too far ahead of the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stepstream.streaming.checkpoints import Checkpoint

__all__ = ["StreamTime"]

MAX_RECORD_AHEAD_MS = 60_000
"""A record time further ahead of the clock than this doesn't change stream time."""
NO_LIMIT_US = np.iinfo(np.int64).max


class StreamTime:
    """Stream time of one partition, and the limit that it sets to the readings' times.

    A reading too far ahead of the consumer's clock is refused. A replay runs at a later time, and
    has to refuse the same readings. So the *lead* of a refused reading is stored: its time minus
    the stream time at its message, which is the same whenever the message is read. The smallest
    lead is stored in the checkpoint. A replay refuses readings with that lead or a larger one, and
    no others::

        lead          0 s ............ 57 s ....... 61 s ...... 90 s
        live          accepted         accepted     refused     refused
        checkpoint                                  61 s
        replay        accepted         accepted     refused     refused

    Parameters
    ----------
    max_ahead_us
        A reading further ahead of the clock than this is refused, microseconds.
    """

    def __init__(self, max_ahead_us: int) -> None:
        self.ms = 0
        """The running maximum of the records' times, milliseconds since the epoch."""
        self.replay_end_ms = 0
        """Stream time at the end of a checkpoint's replay; no message of the replay exceeds it."""
        self.is_past = False
        """Whether readings of the past are read on purpose: stream time is the clock for them."""
        self._max_ahead_us = max_ahead_us
        self._checkpoint: Checkpoint | None = None
        self._refused_lead_us = 0
        self._refused_offset = -1

    def begin_at(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, whose replay comes first."""
        self.ms = checkpoint.replay_ms
        self.replay_end_ms = checkpoint.stream_ms
        self._checkpoint = checkpoint

    def advance(
        self, record_ms: NDArray[np.int64], now_us: int, *, is_replaying: bool
    ) -> NDArray[np.int64]:
        """Advance stream time by messages of which all or none are replayed.

        Parameters
        ----------
        record_ms : (n,) int64
            Times of their records, milliseconds since the epoch.
        now_us
            The clock, microseconds since the epoch.
        is_replaying
            Whether they are replayed.

        Returns
        -------
        (n,) int64
            Stream time at each message.
        """
        is_known = is_replaying and self._checkpoint is not None
        latest_ms = self.replay_end_ms if is_known else now_us // 1000 + MAX_RECORD_AHEAD_MS
        times = np.where(record_ms > latest_ms, 0, record_ms)
        times[0] = max(int(times[0]), self.ms)
        np.maximum.accumulate(times, out=times)
        self.ms = int(times[-1])
        return times

    def latest_us(
        self, stream_ms: NDArray[np.int64], now_us: int, *, is_replaying: bool
    ) -> int | NDArray[np.float64]:
        """Latest time that a reading of each message may have; or one number for all of them.

        Parameters
        ----------
        stream_ms : (n,) int64
            Stream time at each message, as `advance` gave it.
        now_us, is_replaying
            See `advance`.
        """
        if self.is_past:
            return stream_ms.astype(np.float64) * 1e3 + self._max_ahead_us
        if not is_replaying or self._checkpoint is None:
            return now_us + self._max_ahead_us
        lead_us = self._checkpoint.refused_lead_us
        if lead_us is None:
            # An earlier release wrote the checkpoint: it says only how far stream time was behind
            # the clock when it was written.
            lead_us = self._checkpoint.behind_ms * 1000 + self._max_ahead_us + 1
        elif lead_us == 0:
            return NO_LIMIT_US
        return stream_ms.astype(np.float64) * 1e3 + (lead_us - 0.5)

    def note_refused(self, offset: int, lead_us: int) -> None:
        """Store the lead of a reading that was refused.

        Parameters
        ----------
        offset
            Offset of its message.
        lead_us
            By how much it was ahead of stream time, microseconds.
        """
        self._refused_offset = max(self._refused_offset, offset)
        self._refused_lead_us = min(self._refused_lead_us or lead_us, lead_us)

    def refused_lead_us(self, replay_offset: int) -> int:
        """The smallest lead that was refused at or after an offset; 0 if none was."""
        if self._refused_offset < replay_offset:
            self._refused_lead_us = 0
        return self._refused_lead_us
