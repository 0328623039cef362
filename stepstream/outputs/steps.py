"""What is known of a counted step."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CountedStep"]


class CountedStep(NamedTuple):
    """A step that counts.

    Attributes
    ----------
    topic, partition, offset
        The message that completed it.
    number
        Its number among the steps that this message completed, from 0.
    key
        The message's key.
    device_id
        The device.
    step_count
        Steps of the device so far, with this one.
    start_us, end_us
        When the heel lifted and when the toe struck, microseconds since the epoch.
    start_probability, end_probability
        What the model gave for these moments.
    """

    topic: str
    partition: int
    offset: int
    number: int
    key: bytes
    device_id: str
    step_count: int
    start_us: int
    end_us: int
    start_probability: float
    end_probability: float
