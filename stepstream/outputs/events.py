"""Events: a record for each counted step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from stepstream.outputs.records import OutputRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.outputs.steps import CountedStep

__all__ = ["Event", "StepEvents", "encode_event", "event_id"]


class Event(msgspec.Struct, frozen=True):
    """A step, as it is published.

    Attributes
    ----------
    event_id
        Names the step, the same however often it is computed; left out without Kafka.
    device_id
        The device.
    step_count
        Steps of the device so far, with this one.
    started_at, ended_at
        When the heel lifted and when the toe struck, seconds since the epoch.
    start_probability, end_probability
        What the model gave for these moments.
    model
        Its name and version.
    """

    event_id: str | msgspec.UnsetType
    device_id: str
    step_count: int
    started_at: float
    ended_at: float
    start_probability: float
    end_probability: float
    model: str

    @classmethod
    def of(  # noqa: PLR0913, PLR0917 - all that an event is
        cls,
        device_id: str,
        step_count: int,
        start_us: int,
        end_us: int,
        start_probability: float,
        end_probability: float,
        model: str,
        event_id: str | msgspec.UnsetType = msgspec.UNSET,
    ) -> Event:
        """An event from a step as the detector gives it, times in microseconds."""
        return cls(
            event_id,
            device_id,
            step_count,
            start_us / 1e6,
            end_us / 1e6,
            round(start_probability, 4),
            round(end_probability, 4),
            model,
        )


encode_event = msgspec.json.Encoder().encode
"""Bytes of an event: JSON, fields in the order of `Event`."""


def event_id(topic: str, partition: int, offset: int, number: int) -> str:
    """Name of the ``number``-th step that the message at ``offset`` completed."""
    return f"{topic}-{partition}-{offset}-{number}"


class StepEvents:
    """An event for each step, under the key of the message that completed it.

    Parameters
    ----------
    topic
        Where they are published.
    model_label
        Name and version of the model.
    """

    def __init__(self, topic: str, model_label: str) -> None:
        self.topic = topic
        self._model_label = model_label

    def records(self, steps: Sequence[CountedStep]) -> list[OutputRecord]:
        """See `Output.records`."""
        return [OutputRecord(self.topic, step.key, self._encode(step)) for step in steps]

    def _encode(self, step: CountedStep) -> bytes:
        return encode_event(
            Event.of(
                step.device_id,
                step.step_count,
                step.start_us,
                step.end_us,
                step.start_probability,
                step.end_probability,
                self._model_label,
                event_id(step.topic, step.partition, step.offset, step.number),
            )
        )
