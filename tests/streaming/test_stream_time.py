from __future__ import annotations

import numpy as np

from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.stream_time import StreamTime

AHEAD_US = 60_000_000
NOW_MS = 1_700_000_000_000


def replaying(lead_us: int | None, behind_ms: int = 0) -> StreamTime:
    time = StreamTime(AHEAD_US)
    time.begin_at(Checkpoint(0, NOW_MS, NOW_MS + 9_000, behind_ms, "id", 4, lead_us))
    return time


def test_stream_time_is_the_largest_record_time_that_is_not_far_ahead_of_the_clock() -> None:
    time = StreamTime(AHEAD_US)
    times = np.array([5, 9, 3, NOW_MS + 60_001, 7, 11])
    assert time.advance(times, NOW_MS * 1000, is_replaying=False).tolist() == [5, 9, 9, 9, 9, 11]
    assert time.ms == 11
    assert time.advance(np.array([4]), NOW_MS * 1000, is_replaying=False).tolist() == [11]


def test_new_readings_are_checked_by_the_clock() -> None:
    time = StreamTime(AHEAD_US)
    limit_us = time.latest_us(np.array([5]), NOW_MS * 1000, is_replaying=False)
    assert limit_us == NOW_MS * 1000 + AHEAD_US


def test_a_replay_refuses_no_reading_where_none_was_refused() -> None:
    limit_us = replaying(0).latest_us(np.array([NOW_MS]), NOW_MS * 1000, is_replaying=True)
    assert limit_us == np.iinfo(np.int64).max


def test_a_replay_refuses_again_what_was_as_far_ahead_of_stream_time() -> None:
    time = StreamTime(AHEAD_US)
    time.note_refused(10, 61_000_000)
    time.note_refused(12, 75_000_000)
    checkpoint_lead_us = time.refused_lead_us(11)
    assert checkpoint_lead_us == 61_000_000
    stream_ms = np.array([NOW_MS, NOW_MS + 5_000])
    limits = replaying(checkpoint_lead_us).latest_us(stream_ms, 0, is_replaying=True)
    for limit_us, at_ms in zip(np.asarray(limits), stream_ms.tolist(), strict=True):
        assert at_ms * 1000 + 60_999_999 <= limit_us < at_ms * 1000 + 61_000_000


def test_what_was_refused_before_the_replay_offset_is_forgotten() -> None:
    time = StreamTime(AHEAD_US)
    time.note_refused(10, 61_000_000)
    assert time.refused_lead_us(11) == 0
    time.note_refused(20, 75_000_000)
    assert time.refused_lead_us(11) == 75_000_000


def test_a_checkpoint_of_an_earlier_release_gives_each_message_its_own_clock() -> None:
    stream_ms = np.array([NOW_MS, NOW_MS + 70_000])
    limits = replaying(None, behind_ms=2_000).latest_us(stream_ms, 0, is_replaying=True)
    late_us = np.asarray(limits) - stream_ms * 1000
    assert np.all(np.abs(late_us - 62_000_000) <= 1)
