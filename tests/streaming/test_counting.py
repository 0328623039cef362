"""Steps of one device, counted without a stream."""

from __future__ import annotations

import numpy as np

from stepstream.detection import Steps
from stepstream.settings import ProcessingSettings
from stepstream.streaming.counting import count_steps
from tests.detection.builders import TransparentModel


def test_steps_that_one_reading_completes_all_count() -> None:
    ends = np.array([1_000_000, 1_600_000, 1_700_000, 2_200_000])
    likely = np.ones(4, np.float32)
    offsets = np.array([7, 7, 7, 9])
    steps = Steps(np.zeros(4, np.intp), ends - 600_000, ends, likely, likely, offsets)
    counted, events = count_steps("d", steps, TransparentModel(), ProcessingSettings())
    assert counted.end_us.tolist() == [1_000_000, 1_600_000, 2_200_000]
    assert [event.step_count for event in events] == [1, 2, 3]
