"""What is known of a counted step, and what every kind of output makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stepstream.outputs.records import OutputRecord

__all__ = ["CountedStep", "Output"]


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


class Output(Protocol):
    """A kind of records that are made from counted steps."""

    @property
    def topic(self) -> str:
        """Where its records are published."""

    def records(self, steps: Sequence[CountedStep]) -> Iterable[OutputRecord]:
        """The records that steps give; those of a device are in the order in which they count."""
