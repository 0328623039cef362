"""Records of all kinds, from counted steps and from minutes and walks that are final."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepstream.outputs.envelope import Envelope
from stepstream.outputs.groups import MINUTE_US, Minute
from stepstream.outputs.values import CountValue, Event, MinuteValue, WalkValue, event_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stepstream.outputs.encoding import Encoding
    from stepstream.outputs.groups import Walk
    from stepstream.outputs.records import OutputRecord
    from stepstream.outputs.steps import CountedStep
    from stepstream.settings import OutputKind, OutputSettings, TopicSettings

__all__ = ["Outputs"]


class Outputs:
    """Makes the records that are published.

    Parameters
    ----------
    topics
        Where each kind is published; a kind without a topic isn't.
    settings
        How they are published.
    encodings
        How the values of each kind are written.
    model
        Name and version of the model that finds the steps.
    """

    def __init__(
        self,
        topics: TopicSettings,
        settings: OutputSettings,
        encodings: Mapping[OutputKind, Encoding],
        model: str,
    ) -> None:
        self._model = model
        self._kinds = {
            kind: Envelope(topic, kind, encodings[kind], settings)
            for kind, topic in topics.outputs.items()
        }

    def events(self, steps: Iterable[CountedStep]) -> list[OutputRecord]:
        """An event for each step, under the key of the message that completed it."""
        return [self._event(step) for step in steps]

    def _event(self, step: CountedStep) -> OutputRecord:
        name = event_id(step.topic, step.partition, step.offset, step.number)
        value = Event.of(
            step.device_id,
            step.step_count,
            step.start_us,
            step.end_us,
            step.start_probability,
            step.end_probability,
            self._model,
            name,
        )
        return self._kinds["step"].record(
            step.key,
            value,
            source=step.topic,
            name=name,
            time_us=step.end_us,
            device_id=step.device_id,
        )

    def counts(self, steps: Sequence[CountedStep]) -> list[OutputRecord]:
        """The latest count of each device that made steps; none if nobody asks for them."""
        if "count" not in self._kinds:
            return []
        return [self._count(step) for step in {step.device_id: step for step in steps}.values()]

    def _count(self, step: CountedStep) -> OutputRecord:
        return self._kinds["count"].record(
            step.device_id.encode(),
            CountValue.of(step, self._model),
            source=step.topic,
            name=event_id(step.topic, step.partition, step.offset, step.number),
            time_us=step.end_us,
            device_id=step.device_id,
        )

    def forgotten_count(self, topic: str, device_id: str) -> OutputRecord | None:
        """The tombstone of the count of a topic's device; None if nobody asks for counts."""
        if "count" not in self._kinds:
            return None
        return self._kinds["count"].tombstone(device_id.encode(), topic)

    def final(
        self, topic: str, partition: int, groups: Iterable[Minute | Walk]
    ) -> list[OutputRecord]:
        """The records of minutes and walks of an input partition that are final."""
        return [
            self._minute(topic, partition, group)
            if isinstance(group, Minute)
            else self._walk(topic, partition, group)
            for group in groups
        ]

    def _minute(self, topic: str, partition: int, minute: Minute) -> OutputRecord:
        value = MinuteValue.of(topic, partition, minute, self._model)
        return self._kinds["minute"].record(
            minute.device_id.encode(),
            value,
            source=topic,
            name=f"{value.minute_id}/{minute.steps}",
            time_us=(minute.minute + 1) * MINUTE_US,
            device_id=minute.device_id,
        )

    def _walk(self, topic: str, partition: int, walk: Walk) -> OutputRecord:
        value = WalkValue.of(topic, partition, walk, self._model)
        return self._kinds["walk"].record(
            walk.device_id.encode(),
            value,
            source=topic,
            name=f"{value.walk_id}/{walk.steps}",
            time_us=walk.ended_us,
            device_id=walk.device_id,
        )
