"""What finding steps over HTTP needs, and all that ``stepstream serve`` is given."""

from __future__ import annotations

from typing import Protocol, Self

from pydantic import Field, model_validator

from stepstream.settings.commands import CommandSettings, check_schema, take_former_units
from stepstream.settings.groups import in_unit
from stepstream.settings.inputs import InputSettings, RegistrySettings
from stepstream.settings.logs import LoggingSettings
from stepstream.settings.model import ModelSettings
from stepstream.settings.otlp import OtlpSettings
from stepstream.settings.processing import ProcessingSettings
from stepstream.settings.web import HttpSettings

__all__ = ["DetectionSettings", "ServeSettings"]


class DetectionSettings(Protocol):
    """The model, and the readings' form, units and rules."""

    @property
    def input(self) -> InputSettings:
        """How messages are written."""

    @property
    def registry(self) -> RegistrySettings:
        """The schema registry."""

    @property
    def processing(self) -> ProcessingSettings:
        """Rules of the readings."""

    @property
    def model(self) -> ModelSettings:
        """The network."""


class ServeSettings(CommandSettings):
    """The settings of a process without Kafka."""

    input: InputSettings = InputSettings()
    registry: RegistrySettings = RegistrySettings()
    processing: ProcessingSettings = ProcessingSettings()
    model: ModelSettings = ModelSettings()
    http: HttpSettings = HttpSettings()
    otlp: OtlpSettings = OtlpSettings()
    logging: LoggingSettings = LoggingSettings()
    workers: int = Field(1, ge=1, le=256, json_schema_extra=in_unit("processes"))
    """Processes that share the port, up to one for each free core."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        take_former_units(self)
        check_schema("input", self.input, self.registry)
        if self.http.port == 0:
            raise ValueError("http.port is 0: nothing would be served")
        return self
