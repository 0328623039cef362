"""``stepstream schema``."""

from __future__ import annotations

import json
import sys

from pydantic_settings import CliPositionalArg

from stepstream.errors import SettingsError
from stepstream.schemas import describe_topics, output_schema, readings_schema
from stepstream.settings import Settings

__all__ = ["Schema"]


class Schema(Settings):
    """Print an AsyncAPI document of all topics, or the JSON Schema of one, as the settings make them."""

    topic: CliPositionalArg[str] = ""
    """The topic of readings, events, minutes, walks or counts whose JSON Schema is printed; without one, the AsyncAPI document is."""

    def execute(self) -> int:
        """Print it."""
        try:
            document = self._document(self.renamed())
        except (OSError, ValueError) as error:
            raise SettingsError(f"input.schema: {error}") from None
        json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
        return 0

    def _document(self, settings: Settings) -> object:
        topics = settings.topics
        if not self.topic:
            return describe_topics(settings)
        if topics.reads(self.topic):
            return readings_schema(self.input_of(self.topic))
        for kind, name in topics.outputs.items():
            if self.topic == name:
                return output_schema(kind)
        known = ", ".join([*topics.readings, *topics.outputs.values()])
        raise SettingsError(f"{self.topic} has no JSON Schema; topics that have one: {known}")
