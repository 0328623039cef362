"""Gaps cut into recordings, to see what is found after them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from stepstream.training.data import RATE_HZ

if TYPE_CHECKING:
    from stepstream.training.data import LabelledRecording

__all__ = ["interrupt"]

EVERY_S = 30
"""Time between the starts of two gaps."""


def interrupt(recording: LabelledRecording, gap_s: float) -> LabelledRecording:
    """The recording with a gap every 30 s, after 15 s, in which nothing is known.

    Its labels must have times; its steps are counted anew where the readings are.
    """
    length = len(recording.axes)
    firsts = np.arange(EVERY_S * RATE_HZ // 2, length, EVERY_S * RATE_HZ)
    gaps = np.stack([firsts, firsts + round(gap_s * RATE_HZ)], axis=1).clip(0, length)
    sent = np.ones(length, np.bool_)
    for first, end in gaps.tolist():
        sent[first:end] = False
    ends = recording.ends[(recording.ends >= 0) & (recording.ends < length)]
    judged = recording.judged & sent
    count = int(judged[ends.astype(np.int64)].sum())
    return replace(
        recording,
        gaps=gaps,
        start_known=recording.start_known & sent,
        end_known=recording.end_known & sent,
        judged=judged,
        counts=(count, count),
    )
