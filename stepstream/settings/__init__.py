"""Every setting: type, default, unit and meaning; from environment, ``.env`` file or flags."""

from stepstream.settings.commands import (
    ENV_FILE,
    ENV_PREFIX,
    CommandSettings,
    Into,
    Settings,
    choose_input,
)
from stepstream.settings.groups import in_unit, read_secret_file, read_time, split_commas
from stepstream.settings.inputs import InputSettings, RegistrySettings, SensorSettings
from stepstream.settings.kafka import RESERVED_PROPERTIES, SECRET_PROPERTY, KafkaSettings
from stepstream.settings.logs import LoggingSettings
from stepstream.settings.model import ModelSettings
from stepstream.settings.otlp import OtlpSettings
from stepstream.settings.outputs import OutputSettings
from stepstream.settings.processing import AbnormalStart, ProcessingSettings
from stepstream.settings.serving import DetectionSettings, ServeSettings
from stepstream.settings.topics import OutputKind, TopicSettings
from stepstream.settings.web import HttpSettings

__all__ = [
    "ENV_FILE",
    "ENV_PREFIX",
    "RESERVED_PROPERTIES",
    "SECRET_PROPERTY",
    "AbnormalStart",
    "CommandSettings",
    "DetectionSettings",
    "HttpSettings",
    "InputSettings",
    "Into",
    "KafkaSettings",
    "LoggingSettings",
    "ModelSettings",
    "OtlpSettings",
    "OutputKind",
    "OutputSettings",
    "ProcessingSettings",
    "RegistrySettings",
    "SensorSettings",
    "ServeSettings",
    "Settings",
    "TopicSettings",
    "choose_input",
    "in_unit",
    "read_secret_file",
    "read_time",
    "split_commas",
]
