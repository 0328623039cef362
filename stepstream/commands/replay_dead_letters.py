"""``stepstream replay-dead-letters``."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, Field, field_validator
from pydantic_settings import NoDecode
from rich.console import Console
from rich.progress import Progress

from stepstream.inputs import ErrorCode
from stepstream.logs import configure_logging
from stepstream.settings import (
    CommandSettings,
    KafkaSettings,
    LoggingSettings,
    TopicSettings,
    split_commas,
)
from stepstream.streaming.dead_letters import DeadLetterReplay, Selection

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["ReplayDeadLetters"]


class ReplayDeadLetters(CommandSettings):
    """Publish dead letters again to the topic and partition that they came from, each once."""

    code: Annotated[tuple[str, ...], NoDecode] = ()
    """Only those with these error codes, several with commas."""
    partition: Annotated[tuple[int, ...], NoDecode] = ()
    """Only those that came from these partitions, several with commas."""
    since: AwareDatetime | None = None
    """Only those that became dead letters at or after this time, like 2030-01-31T12:00:00Z."""
    until: AwareDatetime | None = None
    """Only those that became dead letters before this time."""
    limit: int | None = Field(None, ge=1)
    """Largest number to publish."""
    from_start: bool = False
    """Begin with the oldest, even if the same selection was replayed before."""
    dry_run: bool = False
    """Print what would be published, and publish nothing."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    logging: LoggingSettings = LoggingSettings()

    @field_validator("code", "partition", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @field_validator("code")
    @classmethod
    def _check(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        for code in codes:
            if code not in set(ErrorCode):
                raise ValueError(f"{code} is none of {', '.join(ErrorCode)}")
        return codes

    def execute(self) -> int:
        """Replay, and print what was published and what was left out."""
        configure_logging(self.logging, self.hide_secrets)
        selection = Selection(
            frozenset(self.code),
            frozenset(self.partition),
            _milliseconds(self.since),
            _milliseconds(self.until),
        )
        replay = DeadLetterReplay(
            self.kafka, self.topics, selection, from_start=self.from_start, dry_run=self.dry_run
        )
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(self.topics.dead_letters)
            replay.run(
                self.limit,
                lambda looked_at, total: progress.update(task, completed=looked_at, total=total),
            )
        result = replay.result
        sent = result.sent.total()
        verb = "would be sent back" if self.dry_run else "sent back"
        sys.stdout.write(f"{sent:,} of {result.looked_at:,} dead letters {verb}\n")
        codes: Counter[str] = Counter()
        for (code, _), count in result.sent.items():
            codes[code] += count
        for code, count in codes.most_common():
            numbers = sorted(number for other, number in result.sent if other == code)
            sys.stdout.write(f"  {code}: {count:,}, partition {', '.join(map(str, numbers))}\n")
        for reason, count in result.left_out.most_common():
            sys.stdout.write(f"  left out, {reason}: {count:,}\n")
        return 0


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else round(at.timestamp() * 1000)
