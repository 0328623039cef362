"""All groups together: what a command is given from environment, ``.env`` file or flags."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepstream.settings.groups import in_unit
from stepstream.settings.kafka import KafkaSettings
from stepstream.settings.logs import LoggingSettings
from stepstream.settings.model import ModelSettings
from stepstream.settings.processing import ProcessingSettings
from stepstream.settings.topics import TopicSettings
from stepstream.settings.web import HttpSettings

__all__ = ["ENV_FILE", "ENV_PREFIX", "CommandSettings", "Settings"]

ENV_PREFIX = "STEPSTREAM_"
ENV_FILE = ".env"


class CommandSettings(BaseSettings):
    """The arguments of a command: groups of settings, and options of its own."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_file=ENV_FILE,
        extra="ignore",
        frozen=True,
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        cli_parse_none_str="none",
    )

    def execute(self) -> int:
        """Run the command and return its exit code."""
        raise NotImplementedError

    def hide_secrets(self, text: str) -> str:
        """Replace the secrets among the settings by asterisks."""
        http = getattr(self, "http", None)
        if isinstance(http, HttpSettings) and http.token is not None:
            text = text.replace(http.token.get_secret_value(), "***")
        kafka = getattr(self, "kafka", None)
        return kafka.hide_secrets(text) if isinstance(kafka, KafkaSettings) else text


class Settings(CommandSettings):
    """All of stepstream's settings."""

    # A group has what was set in it as `model_fields_set` only without this.
    model_config = SettingsConfigDict(nested_model_default_partial_update=False)

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    processing: ProcessingSettings = ProcessingSettings()
    model: ModelSettings = ModelSettings()
    http: HttpSettings = HttpSettings()
    logging: LoggingSettings = LoggingSettings()
    workers: int = Field(1, ge=1, le=256, json_schema_extra=in_unit("processes"))
    """Consumers to run as processes of their own, up to one for each free core, under one parent that restarts them and serves HTTP for all."""

    @model_validator(mode="after")
    def _refuse_a_shared_name(self) -> Self:
        if self.workers > 1 and "group.instance.id" in self.kafka.properties:
            raise ValueError(
                "workers can't share one group.instance.id; by default it is the transactional id"
            )
        return self
