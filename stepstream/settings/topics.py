"""The topics."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from stepstream.settings.groups import SettingsGroup, split_commas

__all__ = ["TopicSettings"]


class TopicSettings(SettingsGroup):
    """Topic names, and how `stepstream topics` creates them."""

    readings: Annotated[tuple[str, ...], NoDecode] = Field(("sensor-readings",), min_length=1)
    """Topics to read, several with commas."""
    events: str = "step-events"
    """Topic of the step events."""
    state: str = "stepstream-state"
    """Compacted topic of the step counts."""
    dead_letters: str = "sensor-readings.dlq"
    """Topic of the dead letters: invalid messages."""
    partitions: int = Field(4, ge=1, le=10_000)
    """Partitions of a topic that `stepstream topics` creates."""
    replication_factor: int = Field(-1, ge=-1, le=32_767)
    """Replicas of a topic that `stepstream topics` creates; -1 is the broker's default."""

    @field_validator("readings", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @model_validator(mode="after")
    def _refuse_clashes(self) -> Self:
        names = [*self.readings, *self.written]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"topic {twice[0]} is used for two things")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """The topics that subscribers read: one for each kind of output."""
        return (self.events,)

    @property
    def written(self) -> tuple[str, ...]:
        """All topics that the consumer writes to."""
        return (*self.outputs, self.dead_letters, self.state)
