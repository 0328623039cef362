"""Where in a message the readings are, as the settings of a topic say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.columns import ACCELEROMETER, FIELDS, GYROSCOPE
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.paths import MISSING, Path
from stepstream.inputs.validation import Units
from stepstream.settings import InputSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stepstream.settings import SensorSettings

__all__ = ["Layout", "SensorNames"]

HEADER = "header:"


@dataclass(frozen=True, slots=True)
class SensorNames:
    """Where a message or an item has the name of its sensor, and the names."""

    path: Path
    accelerometer: str | int
    gyroscope: str | int

    @classmethod
    def of(cls, settings: SensorSettings) -> SensorNames:
        """As the settings say."""
        return cls(Path.parse(settings.path), settings.accelerometer, settings.gyroscope)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where in the messages of a topic the readings are.

    A message is what a parser makes of it: dicts, lists, numbers, text, booleans and None. Arrays
    of NumPy may stand for lists: one of numbers for a list of numbers, a structured one for a list
    of objects, one of two dimensions for a list of lists.

    Attributes
    ----------
    readings
        Path of the list of readings; None if the message is a reading, or the list itself.
    fields
        Path of each field: in each item of the list if the first has it, else in the message.
    required
        The fields that every message has to have.
    device_id
        Path of the device id; None if it is in the key or in a header.
    device_id_header
        Header with the device id.
    key
        Encoding of the key.
    sensor
        How a message or an item names its sensor; None if all readings are of both.
    units
        Units of the numbers.
    time_is_text, time_is_of_record
        Whether times are in ISO 8601; whether the time is that of the record.
    numeric_strings
        Whether numbers may be text.
    rate_hz
        Rate of the readings of a message that has one time; None if messages say it.
    """

    readings: Path | None
    fields: Mapping[str, Path]
    required: frozenset[str]
    device_id: Path | None
    device_id_header: str | None
    key: str
    sensor: SensorNames | None
    units: Units
    time_is_text: bool
    time_is_of_record: bool
    numeric_strings: bool
    rate_hz: float | None

    @classmethod
    def of(cls, settings: InputSettings) -> Layout:
        """The layout that the settings describe."""
        given: dict[str, Path] = {name: Path.parse(path) for name, path in settings.fields.items()}
        of_record = settings.time_unit == "record"
        names = FIELDS if "start" not in given and not of_record else (*ACCELEROMETER, *GYROSCOPE)
        source = settings.device_id
        return cls(
            readings=Path.parse(settings.readings) if settings.readings else None,
            fields={**{name: Path((name,)) for name in names}, **given},
            required=frozenset({*ACCELEROMETER, *(given.keys() - set(GYROSCOPE))}),
            device_id=None if source == "key" or source.startswith(HEADER) else Path.parse(source),
            device_id_header=source.removeprefix(HEADER) if source.startswith(HEADER) else None,
            key=settings.key,
            sensor=SensorNames.of(settings.sensor) if settings.sensor else None,
            units=Units.of(settings),
            time_is_text=settings.time_unit == "iso8601",
            time_is_of_record=of_record,
            numeric_strings=settings.numeric_strings,
            rate_hz=settings.rate,
        )

    @property
    def is_plain(self) -> bool:
        """Whether messages are as `PlainJson` reads them."""
        return self == replace(_PLAIN, units=self.units)

    @property
    def names(self) -> tuple[str, ...]:
        """What errors call the fields of `FIELDS`: their paths."""
        paths = self.fields
        time = paths.get("timestamp") or paths.get("start") or "the record's time"
        return tuple(str(one) for one in (time, *(paths[name] for name in FIELDS[1:])))

    @property
    def wanted(self) -> tuple[Path, ...]:
        """All paths, from the message on, at which something may be looked for.

        A path of a field is there twice if there is a list of readings: in its items, which have
        no part of their own in the path, and in the message.
        """
        found = list(self.fields.values())
        if self.device_id is not None:
            found.append(self.device_id)
        if self.sensor is not None:
            found.append(self.sensor.path)
        if self.readings is not None:
            found += [self.readings + path for path in found]
        return tuple(dict.fromkeys(found))

    def items(self, document: Any) -> Any:
        """The list of readings in a message, or None if the message is a reading itself.

        Raises
        ------
        InvalidMessage
            There is no list where it should be.
        """
        if self.readings is None:
            return document if _is_list_of_readings(document) else None
        found = self.readings.find(document)
        if found is MISSING:
            raise InvalidMessage(ErrorCode.MISSING_FIELD, self.readings.explain_missing(document))
        if isinstance(found, dict):
            return [found]
        if isinstance(found, list) or (isinstance(found, np.ndarray) and found.ndim):
            return found
        raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{self.readings}: expected a list of readings")


def _is_list_of_readings(document: Any) -> bool:
    """Whether a message is a list of objects or lists: not one of numbers, which is one reading."""
    if isinstance(document, list):
        return not document or isinstance(document[0], dict | list | np.ndarray)
    if not isinstance(document, np.ndarray):
        return False
    return document.ndim > 1 or document.dtype.names is not None


_PLAIN = Layout.of(InputSettings())
