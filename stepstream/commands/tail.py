"""``stepstream tail``."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import Field, field_validator
from pydantic_settings import CliPositionalArg, SettingsConfigDict
from rich.console import Console

from stepstream.errors import SettingsError
from stepstream.logs import configure_logging
from stepstream.outputs import DEAD_LETTER
from stepstream.rendering import RecordTable, to_json
from stepstream.settings import (
    CommandSettings,
    Into,
    KafkaSettings,
    LoggingSettings,
    TopicSettings,
    read_time,
)
from stepstream.streaming.tail import FROM_BEGINNING, FROM_NOW, TopicTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stepstream.outputs import PublishedRecord

__all__ = ["Tail"]

What: TypeAlias = Literal["events", "minutes", "walks", "counts", "dead-letters"]

KINDS: dict[What, str] = {
    "events": "step",
    "minutes": "minute",
    "walks": "walk",
    "counts": "count",
    "dead-letters": DEAD_LETTER,
}


class Tail(CommandSettings):
    """Show events, minutes, walks, counts and dead letters as they are published."""

    # An alias has the prefix, too: `FROM` means something else to many programs.
    model_config = SettingsConfigDict(env_prefix_target="all")

    what: CliPositionalArg[list[What]] = Field(default_factory=list)
    """What to show, one or several; events if nothing is named."""
    device: list[str] = Field(default_factory=list)
    """Only records of these devices: several with commas, or given several times."""
    begin: Literal["beginning"] | datetime | None = Field(None, alias="from")
    """Begin with the oldest records (`beginning`), or at a record time like 2030-01-31T12:00:00Z; if not given, only new ones are shown."""
    most: int | None = Field(None, alias="max", ge=1)
    """End after so many records."""
    json_lines: bool = Field(False, alias="json")
    """Print a JSON object for each record, with all that there is of it."""
    into: Into = None
    """Show the topics of the second group of this name."""
    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    logging: LoggingSettings = LoggingSettings(level="warning")

    @field_validator("begin", mode="before")
    @classmethod
    def _read_begin(cls, value: object) -> object:
        return value if value in {None, "beginning"} else read_time(value, "beginning")

    def execute(self) -> int:
        """Show records until Ctrl-C or SIGTERM, or until there were enough."""
        configure_logging(self.logging, self.hide_secrets)
        # A script that starts it in the background lets it ignore SIGINT.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            self._show()
        except KeyboardInterrupt:
            pass
        except BrokenPipeError:
            # The interpreter flushes standard output once more at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0

    def _show(self) -> None:
        kinds = self._kinds()
        with closing(TopicTail(self.kafka, kinds, self._begin_ms())) as tail:
            show = _print_json if self.json_lines else self._printer(list(kinds.values()))
            for number, record in enumerate(self._records(tail), 1):
                show(record)
                if number == self.most:
                    break
        sys.stdout.flush()

    def _kinds(self) -> dict[str, str]:
        """The topics to read, and the kind of the records of each.

        Raises
        ------
        SettingsError
            A topic has no name.
        """
        topics = self.topics if self.into is None else self.topics.into(self.into)
        kinds = {}
        for what in self.what or ["events"]:
            setting = what.replace("-", "_")
            topic: str = getattr(topics, setting)
            if not topic:
                raise SettingsError(
                    f"topics.{setting} is not set, so no {what} are published; "
                    "name the topic, for stepstream run as well"
                )
            kinds[topic] = KINDS[what]
        return kinds

    def _begin_ms(self) -> int:
        if self.begin is None:
            return FROM_NOW
        if self.begin == "beginning":
            return FROM_BEGINNING
        return max(0, round(self.begin.timestamp() * 1000))

    def _records(self, tail: TopicTail) -> Iterator[PublishedRecord]:
        """The records that are asked for; what was printed is seen before it waits for more."""
        devices = set(self.device)
        while True:
            for record in tail.read():
                if not devices or record.device_of(record.read()) in devices:
                    yield record
            sys.stdout.flush()

    def _printer(self, kinds: list[str]) -> Callable[[PublishedRecord], None]:
        console = _Console(soft_wrap=True, highlight=False)
        table = RecordTable(
            kinds,
            self.device,
            console.width if console.is_terminal else None,
            with_source=len(self.topics.readings) > 1 or bool(self.topics.patterns),
        )
        console.print(table.head())

        def show(record: PublishedRecord) -> None:
            for line in table.lines(record):
                console.print(line)

        return show


def _print_json(record: PublishedRecord) -> None:
    sys.stdout.write(f"{to_json(record).decode()}\n")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
