"""Steps of one device, counted by the rules of the stream but without one."""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from stepstream.outputs import Event
from stepstream.streaming.ledger import Ledger

if TYPE_CHECKING:
    from stepstream.detection import Model, Steps
    from stepstream.settings import ProcessingSettings

__all__ = ["count_steps"]


def count_steps(
    device_id: str, steps: Steps, model: Model, settings: ProcessingSettings
) -> tuple[Steps, list[Event]]:
    """The steps of one device that count, by the rules of the stream, and their events."""
    ledger = Ledger.of(model.metadata, settings)
    counts: list[int | None] = []
    completed = groupby(
        zip(steps.offset.tolist(), steps.end_us.tolist(), strict=True), itemgetter(0)
    )
    for offset, ends in completed:
        counts += ledger.count(device_id, offset, [end_us for _, end_us in ends])
    steps = steps.take(np.array([count is not None for count in counts], np.bool_))
    events = [
        Event.of(device_id, count, *row, model.metadata.label)
        for count, row in zip(filter(None, counts), steps.rows(), strict=True)
    ]
    return steps, events
