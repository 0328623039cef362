"""How messages of readings are written, and the schema registry."""

from __future__ import annotations

import math
import operator
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, SecretStr, field_validator, model_validator

from stepstream.settings.groups import SettingsGroup, in_unit, read_secret_file
from stepstream.settings.paths import EACH, split_path

__all__ = [
    "ACCELERATIONS",
    "ANGULAR_VELOCITIES",
    "InputSettings",
    "RegistrySettings",
    "SensorSettings",
    "unit_factor",
]

ACCELERATIONS = {"m/s2": 1.0, "g": 9.80665, "mg": 9.80665e-3}
"""Units of acceleration, in m/s^2."""
ANGULAR_VELOCITIES = {"rad/s": 1.0, "deg/s": math.pi / 180, "mdps": math.pi / 180_000}
"""Units of angular velocity, in rad/s."""

FieldName = Literal[
    "timestamp",
    "accel_x",
    "accel_y",
    "accel_z",
    "gyro_x",
    "gyro_y",
    "gyro_z",
    "start",
    "period",
    "rate",
]
HEADER = "header:"
SCHEMA_FORMATS = ("avro", "protobuf", "json-schema")
_COUNT = re.compile(r"(?:([0-9.eE+-]+) )?([a-z0-9/]+?)(?:/([0-9.]+))?")


def unit_factor(text: str, units: dict[str, float]) -> float:
    """What a 1 in a message is, in the first of some units: of ``g``, ``0.061 mg``, ``g/16384``.

    Raises
    ------
    ValueError
        The text is no unit.
    """
    parts = _COUNT.fullmatch(text)
    if parts is not None and parts[2] in units:
        try:
            factor = float(parts[1] or 1) * units[parts[2]] / float(parts[3] or 1)
        except (ValueError, ZeroDivisionError):
            factor = math.nan
        if math.isfinite(factor) and factor:
            return factor
    first = next(iter(units))
    raise ValueError(
        f"{text!r} is no unit; expected one of {', '.join(units)}, or what a 1 is, such as "
        f"'0.061 {first}' or '{first}/16384'"
    )


def _check_path(text: str) -> str:
    split_path(text)
    return text


def _check_single_path(text: str) -> str:
    if EACH in split_path(text):
        raise ValueError(f"{text!r}: only paths of axes and of timestamp may have a *")
    return text


PathText = Annotated[str, AfterValidator(_check_path)]
SinglePathText = Annotated[str, AfterValidator(_check_single_path)]


class SensorSettings(SettingsGroup):
    """How a message or an item says which sensor it is of."""

    path: SinglePathText
    """Path of the sensor's name."""
    accelerometer: str | int
    """Its value with readings of the accelerometer."""
    gyroscope: str | int
    """Its value with readings of the gyroscope."""

    @model_validator(mode="after")
    def _refuse_one_value(self) -> Self:
        if self.accelerometer == self.gyroscope:
            raise ValueError("accelerometer and gyroscope have the same value")
        return self


class InputSettings(SettingsGroup):
    """How the messages of the readings topics are written; see [inputs](inputs.md)."""

    # pydantic-settings merges what is set with the dumped defaults, by name.
    model_config = ConfigDict(serialize_by_alias=True)

    format: Literal["json", "avro", "protobuf", "json-schema", "msgpack", "cbor", "senml"] = "json"
    """Encoding of the messages. `avro`, `protobuf` and `json-schema` need a schema registry or a schema file."""
    readings: SinglePathText | None = None
    """Path of the list of readings in a message; if not set, a message is one reading, a list of readings, or has an array for each field."""
    fields: dict[FieldName, PathText] = Field(default_factory=dict)
    """Where the fields are, as a JSON object from `timestamp`, `accel_x` to `gyro_z`, `start`, `period` and `rate` to paths; a field that isn't in it has its own name as path."""
    device_id: str = Field("key", min_length=1)
    """Where the device id is: `key`, `header:<name>`, or a path."""
    key: Literal["text", "json", "int32", "int64", "uuid"] = "text"
    """How keys that are device ids are encoded: `json` is a JSON string or number, `int32` and `int64` are big-endian as Kafka's serializers write them, `uuid` is 16 bytes."""
    time_unit: Literal["s", "ms", "us", "ns", "iso8601", "record"] = "s"
    """Unit of times, counted since the epoch, and of `period`; `iso8601` is text, UTC if it names no zone; `record` uses the time of the Kafka record."""
    accel_unit: str = "m/s2"
    """Unit of the accelerometer's readings: `m/s2`, `g`, `mg`, or what a 1 is, such as `g/16384` or `0.061 mg`."""
    gyro_unit: str = "rad/s"
    """Unit of the gyroscope's readings: `rad/s`, `deg/s`, `mdps`, or what a 1 is, such as `deg/s/131` or `8.75 mdps`."""
    rate: float | None = Field(
        None, gt=1e-3, lt=1e6, json_schema_extra=in_unit("readings a second")
    )
    """Rate of messages with several readings and one time, `start` or that of the record, that don't say it themselves."""
    numeric_strings: bool = False
    """Whether numbers may be written as strings."""
    sensor: SensorSettings | None = None
    """For messages or items of one sensor: a JSON object with `path`, `accelerometer` and `gyroscope`, the path of the sensor's name and its two values. Other sensors are ignored."""
    schema_: Path | None = Field(None, alias="schema")
    """File of the schema if there is no registry: an Avro schema, or a compiled Protobuf descriptor set."""
    message_type: str | None = None
    """Full name of the Protobuf message."""

    @field_validator("device_id")
    @classmethod
    def _check_device_id(cls, text: str) -> str:
        if text == HEADER:
            raise ValueError("the header has no name")
        if text != "key" and not text.startswith(HEADER):
            _check_single_path(text)
        return text

    @field_validator("accel_unit")
    @classmethod
    def _check_accel_unit(cls, text: str) -> str:
        unit_factor(text, ACCELERATIONS)
        return text

    @field_validator("gyro_unit")
    @classmethod
    def _check_gyro_unit(cls, text: str) -> str:
        unit_factor(text, ANGULAR_VELOCITIES)
        return text

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        given = self.fields.keys()
        if {"period", "rate"} <= given:
            raise ValueError("fields: give period or rate, not both")
        if {"timestamp", "start"} <= given:
            raise ValueError("fields: give timestamp or start, not both")
        has_distance = bool(given & {"period", "rate"}) or self.rate is not None
        if self.time_unit == "record":
            if given & {"timestamp", "start"}:
                raise ValueError(
                    "fields: with the time of the record there is no timestamp or start"
                )
        elif has_distance != ("start" in given):
            raise ValueError(
                "fields: start needs period or rate in fields, or input.rate, and they need start"
            )
        if self.rate is not None and given & {"period", "rate"}:
            raise ValueError("rate: fields says that the messages have it: give one of both")
        return self

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        given = self.fields
        places = [(name, path, split_path(path)) for name, path in given.items()]
        for name, path, parts in places:
            if EACH in parts and name in {"start", "period", "rate"}:
                raise ValueError(f"fields: {name} is one number, so {path} can't have a *")
        for i, (name, path, parts) in enumerate(places):
            for other, other_path, other_parts in places[:i]:
                # The axes of two sensors may be in one place if a message has one of them.
                alike = all(map(operator.eq, parts, other_parts))
                if alike and not (self.sensor and {name[:5], other[:5]} == {"accel", "gyro_"}):
                    raise ValueError(
                        f"fields: {other} can't be at {other_path} and {name} at {path}"
                    )
        return self

    @model_validator(mode="after")
    def _check_senml(self) -> Self:
        if self.format == "senml" and self.time_unit not in {"s", "record"}:
            raise ValueError(f"time_unit: times of SenML are in s, not {self.time_unit}")
        return self

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        if self.schema_ is not None and self.format not in SCHEMA_FORMATS:
            raise ValueError(f"a schema is of no use with the format {self.format}")
        if self.message_type is not None and self.format != "protobuf":
            raise ValueError(f"message_type is of no use with the format {self.format}")
        if self.format == "protobuf" and self.schema_ and not self.message_type:
            raise ValueError("message_type has to name the message in the schema")
        return self

    def with_changes(self, changes: dict[str, Any]) -> InputSettings:
        """These settings, with some others."""
        given = self.model_dump(by_alias=True, exclude_unset=True)
        return InputSettings.model_validate({**given, **changes})


class RegistrySettings(SettingsGroup):
    """The schema registry, with Confluent's API."""

    url: str | None = Field(None, pattern=r"^https?://")
    """Address of the registry; without one there is none."""
    username: str | None = None
    """User name."""
    password: SecretStr | None = None
    """Password."""
    password_file: Path | None = None
    """File that holds the password."""
    ca_location: Path | None = None
    """File of the certificate authorities to trust, PEM; the system's if not set."""

    @model_validator(mode="after")
    def _read_password_file(self) -> Self:
        if self.password_file is not None:
            if self.password is not None:
                raise ValueError("set password or password_file, not both")
            object.__setattr__(
                self, "password", read_secret_file(self.password_file, "password_file")
            )
        return self

    @model_validator(mode="after")
    def _check_user(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        return self
