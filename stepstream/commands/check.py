"""``stepstream check``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import CliPositionalArg

from stepstream.errors import StreamError
from stepstream.inputs import RegistryAwayError
from stepstream.inspection import (
    MAX_FILE_BYTES,
    Advice,
    Excerpt,
    Inspector,
    describe,
    read_file,
)
from stepstream.settings import Settings

if TYPE_CHECKING:
    from stepstream.inspection import Understanding
    from stepstream.settings import InputSettings

__all__ = ["Check"]


class Check(Settings):
    """Show how messages are understood, and what the settings should probably be."""

    files: CliPositionalArg[list[Path]] = Field(default_factory=list)
    """Files of messages; without any, the last messages of the readings topics. A file has a message in each line: JSON, alone or behind its key and a tab, or as `kcat -J` prints it; any other file is one message. `.gz` too."""
    messages: int = Field(20_000, ge=1, le=1_000_000)
    """Most messages of a topic or file to look at."""

    def execute(self) -> int:
        """Look at each topic or file; 1 if something is wrong."""
        if self.files:
            excerpts = [read_file(path, self.messages, MAX_FILE_BYTES) for path in self.files]
        else:
            from stepstream.streaming.latest import read_latest  # noqa: PLC0415 - a Kafka client

            excerpts = read_latest(self.kafka, self.topics, self.messages)
        try:
            return max([int(not self._check(excerpt)) for excerpt in excerpts])
        except RegistryAwayError as error:
            raise StreamError(
                f"the schema registry can't be asked: {error}; is registry.url right?"
            ) from None

    def _check(self, excerpt: Excerpt) -> bool:
        """Show one topic or file; whether all is right."""
        settings = self.input if self.files else self.input_of(excerpt.name)
        sys.stdout.write(f"{excerpt.name}\n")
        if not excerpt.messages:
            sys.stdout.write("  no message yet: nothing can be checked\n")
            return False
        ahead_us = round(self.processing.max_ahead_s * 1e6)
        now_us = time.time_ns() // 1000
        inspector = Inspector(settings, self.registry, excerpt, now_us, ahead_us)
        found = inspector.understand(settings)
        lines = describe(excerpt, settings, found)
        advice = inspector.advise_finer_ids(found) if found.is_right else inspector.advise(found)
        if advice is None:
            lines.append(f"  {_praise(found)}")
        else:
            lines += self._advice(excerpt, settings, found, advice)
        sys.stdout.write("\n".join(lines) + "\n")
        return advice is None

    def _advice(
        self, excerpt: Excerpt, settings: InputSettings, found: Understanding, advice: Advice
    ) -> list[str]:
        lines = [f"  {remark}" for remark in advice.remarks]
        # What one topic needs may be wrong for the others.
        is_shared = bool(self.files) or (len(self.topics.readings) == 1 and not self.inputs)
        wanted = advice.lines(settings, None if is_shared else excerpt.name, self.inputs)
        if not wanted:
            return [*lines, f"  no better settings were found{_fit(found)}"]
        lines += ["", "The settings should probably be:", "", *wanted, ""]
        if advice.understood is not None:
            lines.append(f"With them: {_summary(advice.understood)}")
        return lines


def _summary(found: Understanding) -> str:
    valid = found.total - len(found.invalid)
    text = (
        f"{valid:,} of {found.total:,} messages give {found.readings:,} readings of "
        f"{len(found.device_ids):,} device{'s' if len(found.device_ids) != 1 else ''}"
    )
    return f"{text}, and {_praise(found)}" if found.is_right else text


def _fit(found: Understanding) -> str:
    """That only messages are wrong, if most are not."""
    is_well = found.readings and not found.faults[1]
    return ": they fit the other messages" if is_well else ""


def _praise(found: Understanding) -> str:
    if not found.verdict.pieces:
        return "nothing is wrong, as far as so few readings show"
    return "all is right"
