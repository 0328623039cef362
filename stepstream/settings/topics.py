"""The topics."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, field_validator, model_validator
from pydantic_settings import NoDecode

from stepstream.settings.groups import SettingsGroup, split_commas

OutputKind: TypeAlias = Literal["step", "minute", "walk", "count"]

__all__ = ["OutputKind", "TopicSettings", "check_pattern", "is_pattern"]

INTERNAL = "__"
"""How names of Kafka's internal topics begin."""


def is_pattern(name: str) -> bool:
    """Whether it stands for the names of many topics."""
    return name.startswith("^")


def check_pattern(name: str) -> None:
    """Check that a pattern can be used.

    Raises
    ------
    ValueError
        It is no regular expression.
    """
    try:
        re.compile(name)
    except re.error as error:
        raise ValueError(f"{name} is no regular expression: {error}") from None


class TopicSettings(SettingsGroup):
    """Topic names, and how `stepstream topics` creates them."""

    readings: Annotated[tuple[str, ...], NoDecode] = Field(("sensor-readings",), min_length=1)
    """Topics to read, several with commas. A name that begins with `^` is a pattern: a regular expression without a comma, for the beginning of names. Topics that match are read, also those that are created later."""
    events: str = "step-events"
    """Topic of the step events."""
    minutes: str = ""
    """Topic of the minutes: one record for each minute in which a device made a step; empty for none."""
    walks: str = ""
    """Topic of the walks: one record for each time that a device walked; empty for none."""
    counts: str = ""
    """Compacted topic of the counts: the latest step count of each device; empty for none."""
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

    @field_validator("readings")
    @classmethod
    def _refuse_wrong_patterns(cls, readings: tuple[str, ...]) -> tuple[str, ...]:
        for name in filter(is_pattern, readings):
            check_pattern(name)
        return readings

    @model_validator(mode="after")
    def _refuse_clashes(self) -> Self:
        names = [*self.readings, *self.written]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"topic {twice[0]} is used for two things")
        for pattern in self.patterns:
            for name in self.written:
                if re.match(pattern, name):
                    raise ValueError(
                        f"the pattern {pattern} matches {name}, a topic that stepstream writes; "
                        "narrow the pattern or rename the topic"
                    )
        return self

    @property
    def named(self) -> tuple[str, ...]:
        """The readings topics that are named."""
        return tuple(name for name in self.readings if not is_pattern(name))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns for further readings topics."""
        return tuple(filter(is_pattern, self.readings))

    def matches(self, name: str) -> bool:
        """Whether a topic is read because it matches a pattern; Kafka's own topics never are."""
        return (
            name not in self.named
            and not name.startswith(INTERNAL)
            and any(re.match(pattern, name) for pattern in self.patterns)
        )

    def reads(self, name: str) -> bool:
        """Whether a topic is one of readings: it is named, or it matches a pattern."""
        return name in self.named or self.matches(name)

    def into(self, name: str) -> Self:
        """These topics with others to write to: the same names, with a dot and ``name`` behind.

        Raises
        ------
        ValueError
            A pattern of readings topics matches one of them.
        """
        # Every text in this group is the name of a topic that is written.
        texts = {key: value for key, value in self if isinstance(value, str) and value}
        changed = {key: f"{value}.{name}" for key, value in texts.items()}
        return type(self)(**{**dict(self), **changed})

    @property
    def outputs(self) -> dict[OutputKind, str]:
        """The topics that subscribers read, by kind of output; those that are named."""
        topics: dict[OutputKind, str] = {
            "step": self.events,
            "minute": self.minutes,
            "walk": self.walks,
            "count": self.counts,
        }
        return {kind: name for kind, name in topics.items() if name}

    @property
    def compacted(self) -> tuple[str, ...]:
        """The topics of which only the latest record of each key is needed."""
        return tuple(filter(None, (self.counts, self.state)))

    @property
    def written(self) -> tuple[str, ...]:
        """All topics that the consumer writes to."""
        return (*self.outputs.values(), self.dead_letters, self.state)
