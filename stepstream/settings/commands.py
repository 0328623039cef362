"""All groups together: what a command is given from environment, ``.env`` file or flags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from stepstream.errors import SettingsError
from stepstream.settings.groups import in_unit
from stepstream.settings.inputs import SCHEMA_FORMATS, InputSettings, RegistrySettings
from stepstream.settings.kafka import KafkaSettings
from stepstream.settings.logs import LoggingSettings
from stepstream.settings.model import ModelSettings
from stepstream.settings.otlp import OtlpSettings
from stepstream.settings.outputs import OutputSettings
from stepstream.settings.processing import ProcessingSettings
from stepstream.settings.topics import TopicSettings, check_pattern, is_pattern
from stepstream.settings.web import HttpSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepstream.settings.serving import ServeSettings

__all__ = [
    "ENV_FILE",
    "ENV_PREFIX",
    "CommandSettings",
    "Into",
    "Settings",
    "check_schema",
    "choose_input",
    "take_former_units",
]

ENV_PREFIX = "STEPSTREAM_"
ENV_FILE = ".env"
Into: TypeAlias = Annotated[str | None, Field(pattern=r"^[A-Za-z0-9._-]{1,80}$")]


def describe_errors(error: ValidationError) -> str:
    """What is wrong with which setting, without the values, which may be secrets."""
    problems = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg']}"
        for problem in problems
    )


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
        registry = getattr(self, "registry", None)
        if isinstance(registry, RegistrySettings) and registry.password is not None:
            text = text.replace(registry.password.get_secret_value(), "***")
        otlp = getattr(self, "otlp", None)
        if isinstance(otlp, OtlpSettings):
            text = otlp.hide_secrets(text)
        kafka = getattr(self, "kafka", None)
        return kafka.hide_secrets(text) if isinstance(kafka, KafkaSettings) else text


class Settings(CommandSettings):
    """All of stepstream's settings."""

    reads_ranges: ClassVar[bool] = False
    """Whether nothing is read of a partition without a committed offset, which has its range."""

    # A group has what was set in it as `model_fields_set` only without this.
    model_config = SettingsConfigDict(nested_model_default_partial_update=False)

    kafka: KafkaSettings = KafkaSettings()
    topics: TopicSettings = TopicSettings()
    input: InputSettings = InputSettings()
    registry: RegistrySettings = RegistrySettings()
    processing: ProcessingSettings = ProcessingSettings()
    output: OutputSettings = OutputSettings()
    model: ModelSettings = ModelSettings()
    http: HttpSettings = HttpSettings()
    otlp: OtlpSettings = OtlpSettings()
    logging: LoggingSettings = LoggingSettings()
    inputs: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What is different from `input` in some topics: a JSON object from their names, or patterns as in `topics.readings`, to objects with the settings of `input`."""
    workers: int = Field(1, ge=1, le=256, json_schema_extra=in_unit("processes"))
    """Consumers to run as processes of their own, up to one for each free core, under one parent that restarts them and serves HTTP for all."""

    into: Into = None
    """Name of a second group on the same readings: a backfill, or another model to compare. A dot and this name are added to the group, to the transactional id and to all topics that are written."""

    def renamed(self) -> Self:
        """The same settings with all names as ``into`` makes them.

        Raises
        ------
        SettingsError
            A pattern of readings topics matches one of the topics to write to.
        """
        if self.into is None:
            return self
        names = {
            key: name and f"{name}.{self.into}"
            for key, name in (
                ("group_id", self.kafka.group_id),
                ("transactional_id", self.kafka.transactional_id),
            )
        }
        try:
            topics = self.topics.into(self.into)
        except ValidationError as error:
            raise SettingsError(f"into {self.into}: {describe_errors(error)}") from None
        kafka = self.kafka.model_copy(update=names)
        return self.model_copy(update={"kafka": kafka, "topics": topics, "into": None})

    @model_validator(mode="after")
    def _refuse_a_shared_name(self) -> Self:
        if self.workers > 1 and "group.instance.id" in self.kafka.properties:
            raise ValueError(
                "workers can't share one group.instance.id; by default it is the transactional id"
            )
        return self

    @model_validator(mode="after")
    def _take_former_units(self) -> Self:
        take_former_units(self)
        return self

    @model_validator(mode="after")
    def _check_otlp(self) -> Self:
        if self.otlp.endpoint and self.http.port == 0:
            raise ValueError(
                "otlp.endpoint needs http.port: what is pushed is what /metrics shows there"
            )
        return self

    @model_validator(mode="after")
    def _check_output(self) -> Self:
        if self.output.format != "json" and not self.registry.url:
            raise ValueError(f"output.format: {self.output.format} needs registry.url")
        return self

    @model_validator(mode="after")
    def _check_inputs(self) -> Self:
        for name in self.inputs:
            if is_pattern(name):
                check_pattern(name)
            elif not self.topics.reads(name):
                raise ValueError(f"inputs: {name} is not among topics.readings")
        for topic in (*self.topics.readings, *self.inputs):
            check_schema(f"topic {topic}", self.input_of(topic), self.registry)
        return self

    def input_of(self, topic: str) -> InputSettings:
        """How the messages of a topic are written: as its name in ``inputs`` says, or a pattern.

        The first pattern there that the name matches counts.

        Raises
        ------
        ValueError
            What ``inputs`` says of the topic is wrong; never once the settings are made.
        """
        return choose_input(self.input, self.inputs, topic)


def take_former_units(settings: Settings | ServeSettings) -> None:
    """Take the units from their former names in ``processing``.

    Raises
    ------
    ValueError
        Both names are set, to different units.
    """
    changes = {}
    for name in ("accel_unit", "gyro_unit", "time_unit"):
        former = getattr(settings.processing, name)
        if former is None:
            continue
        if name in settings.input.model_fields_set and getattr(settings.input, name) != former:
            raise ValueError(f"input.{name} and its former name processing.{name} differ")
        changes[name] = former
    if changes:
        object.__setattr__(settings, "input", settings.input.with_changes(changes))


def check_schema(of: str, given: InputSettings, registry: RegistrySettings) -> None:
    """Check that there is a schema for messages whose format needs one.

    Raises
    ------
    ValueError
        There is none; the text names what it is lacking of.
    """
    if given.format in SCHEMA_FORMATS and not (given.schema_ or registry.url):
        raise ValueError(f"{of}: {given.format} needs registry.url, or a file as input.schema")


def choose_input(
    given: InputSettings, inputs: Mapping[str, dict[str, Any]], topic: str
) -> InputSettings:
    """Settings of a topic's messages, with what is different in it; see `Settings.input_of`."""
    patterns = (name for name in inputs if is_pattern(name) and re.match(name, topic))
    name = topic if topic in inputs else next(patterns, None)
    if name is None:
        return given
    try:
        return given.with_changes(inputs[name])
    except ValidationError as error:
        raise ValueError(f"inputs: {name}: {describe_errors(error)}") from None
