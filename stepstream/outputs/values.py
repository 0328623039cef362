"""Values of the records: what subscribers read, a type for each kind of output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stepstream.outputs.groups import MINUTE_US

if TYPE_CHECKING:
    from stepstream.outputs.groups import Minute, Walk
    from stepstream.outputs.steps import CountedStep

__all__ = ["CountValue", "Event", "MinuteValue", "WalkValue", "event_id"]


def event_id(topic: str, partition: int, offset: int, number: int) -> str:
    """Name of the ``number``-th step that the message at ``offset`` completed."""
    return f"{topic}-{partition}-{offset}-{number}"


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


class MinuteValue(msgspec.Struct, frozen=True):
    """A minute in which a device made steps, as it is published.

    Attributes
    ----------
    minute_id
        The `event_id` of its first step.
    device_id
        The device.
    minute
        Its beginning, RFC 3339.
    steps
        Steps that ended in it.
    cadence
        Steps a minute of walking.
    walking_s
        Their walking time, seconds; at most 60.
    model
        Name and version of the model.
    """

    minute_id: str
    device_id: str
    minute: str
    steps: int
    cadence: float
    walking_s: float
    model: str

    @classmethod
    def of(cls, topic: str, partition: int, minute: Minute, model: str) -> MinuteValue:
        """The value of a minute that is final, of a device of an input partition."""
        # The first step's time may have begun in the minute before.
        walking_us = min(minute.walking_us, MINUTE_US)
        return cls(
            _group_id(topic, partition, minute),
            minute.device_id,
            f"{np.datetime64(minute.minute, 'm')}:00Z",
            minute.steps,
            _cadence(minute.steps, walking_us),
            round(walking_us / 1e6, 3),
            model,
        )


class WalkValue(msgspec.Struct, frozen=True):
    """A walk, as it is published.

    Attributes
    ----------
    walk_id
        The `event_id` of its first step.
    device_id
        The device.
    started_at, ended_at
        Start of its first step and end of its last, seconds since the epoch.
    steps
        Its steps.
    cadence
        Steps a minute of walking.
    model
        Name and version of the model.
    """

    walk_id: str
    device_id: str
    started_at: float
    ended_at: float
    steps: int
    cadence: float
    model: str

    @classmethod
    def of(cls, topic: str, partition: int, walk: Walk, model: str) -> WalkValue:
        """The value of a walk that is final, of a device of an input partition."""
        return cls(
            _group_id(topic, partition, walk),
            walk.device_id,
            walk.started_us / 1e6,
            walk.ended_us / 1e6,
            walk.steps,
            _cadence(walk.steps, walk.walking_us),
            model,
        )


class CountValue(msgspec.Struct, frozen=True):
    """The latest step count of a device, as it is published.

    Attributes
    ----------
    device_id
        The device.
    step_count
        Its steps so far.
    last_step_at
        End of the last one, seconds since the epoch.
    model
        Name and version of the model.
    """

    device_id: str
    step_count: int
    last_step_at: float
    model: str

    @classmethod
    def of(cls, step: CountedStep, model: str) -> CountValue:
        """The value after a step."""
        return cls(step.device_id, step.step_count, step.end_us / 1e6, model)


def _group_id(topic: str, partition: int, group: Minute | Walk) -> str:
    """Name of its first step."""
    at = partition if group.partition is None else group.partition
    return event_id(topic, at, group.offset, group.number)


def _cadence(steps: int, walking_us: int) -> float:
    return round(steps * 6e7 / max(walking_us, 1), 1)
