"""JSON Schema of readings, as the settings say that they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stepstream.inputs import (
    ACCELEROMETER,
    GYROSCOPE,
    MAX_ACCELERATION,
    MAX_ANGULAR_VELOCITY,
    MAX_READINGS,
    is_plain,
)
from stepstream.inputs.layout import Layout
from stepstream.inputs.paths import Path
from stepstream.settings.paths import EACH

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stepstream.settings import InputSettings

__all__ = ["readings_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TIMES = {
    "s": "seconds since the epoch",
    "ms": "milliseconds since the epoch",
    "us": "microseconds since the epoch",
    "ns": "nanoseconds since the epoch",
    "iso8601": "ISO 8601, UTC if it names no zone",
}
SENML: dict[str, Any] = {
    "$schema": DIALECT,
    "title": "Readings",
    "description": "A SenML pack (RFC 8428) with absolute times; values of one time are a reading.",
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "bn": {"type": "string"},
            "n": {"type": "string"},
            **{name: {"type": "number"} for name in ("bt", "bv", "t", "v")},
        },
    },
}


def readings_schema(settings: InputSettings) -> dict[str, Any]:
    """The JSON Schema of a topic's messages.

    With a format that isn't JSON, it is the schema of what the message contains. It says what each
    valid message is like; a few messages that it allows are invalid, such as those whose columns
    differ in length.

    Parameters
    ----------
    settings
        How the messages are written.
    """
    if settings.format == "senml":
        paths = Layout.of(settings).fields
        listed = ", ".join(str(paths[name]) for name in (*ACCELEROMETER, *GYROSCOPE))
        return {**SENML, "description": f"{SENML['description']} Names of the values: {listed}."}
    return {
        "$schema": DIALECT,
        "title": "Readings",
        "description": "Value of a message with readings. Unknown fields are ignored.",
        **_Readings(settings).message(),
    }


class _Readings:
    """Schemas of the parts of a topic's messages."""

    def __init__(self, settings: InputSettings) -> None:
        self._settings = settings
        self._layout = Layout.of(settings)
        self._is_plain = is_plain(settings)

    def message(self) -> dict[str, Any]:
        """Of a message."""
        path = self._layout.readings
        if self._is_plain:
            return {"oneOf": [self._reading(), self._columns()]}
        if path is None:
            one = [*self._each(self._reading), *self._each(self._columns)]
            return {"anyOf": [*one, _list({"anyOf": one})]}
        item = {
            "anyOf": [
                *self._each(self._reading, inside=True),
                *self._each(self._columns, inside=True),
            ]
        }
        shared = {name: self._shared(name) for name in self._layout.fields if not _is_axis(name)}
        places = {self._layout.fields[name]: schema for name, schema in shared.items()}
        return _object({**places, **self._id(), path: _list(item)}, {path})

    def _each(self, make: Any, *, inside: bool = False) -> list[dict[str, Any]]:
        """A schema, or one for each sensor and one for all others."""
        sensor = self._layout.sensor
        if sensor is None:
            return [make(inside=inside)]
        known = [sensor.accelerometer, sensor.gyroscope]
        return [
            make(ACCELEROMETER, {sensor.path: {"const": sensor.accelerometer}}, inside=inside),
            make(GYROSCOPE, {sensor.path: {"const": sensor.gyroscope}}, inside=inside),
            _object({sensor.path: {"not": {"enum": known}}}, {sensor.path}),
        ]

    def _reading(
        self,
        axes: tuple[str, ...] = (*ACCELEROMETER, *GYROSCOPE),
        more: Mapping[Path, Any] | None = None,
        *,
        inside: bool = False,
    ) -> dict[str, Any]:
        """Of one reading; inside of a list, the message may have what is not an axis."""
        paths = self._layout.fields
        places = {paths[name]: self._value(name) for name in self._names(axes, inside=inside)}
        required = self._required(axes, set() if inside else set(self._settings.fields))
        return {
            "title": "Reading",
            **_object({**places, **self._id(), **(more or {})}, required, self._together(axes)),
        }

    def _columns(
        self,
        axes: tuple[str, ...] = (*ACCELEROMETER, *GYROSCOPE),
        more: Mapping[Path, Any] | None = None,
        *,
        inside: bool = False,
    ) -> dict[str, Any]:
        """Of several readings: arrays of one length."""
        paths = self._layout.fields
        places = {}
        for name in self._names(axes, inside=inside):
            value = self._value(name)
            is_column = name == "timestamp" or _is_axis(name)
            is_list = is_column and not paths[name].is_of_items
            places[paths[name]] = _list(value) if is_list else value
        required = self._required(axes, set() if inside else set(paths))
        return {
            "title": "Batch of readings: arrays of one length",
            **_object({**places, **self._id(), **(more or {})}, required, self._together(axes)),
        }

    def _names(self, axes: tuple[str, ...], *, inside: bool) -> list[str]:
        """Fields of a reading; an item that is a list can't have those with names."""
        paths = self._layout.fields
        kind = type(paths[axes[0]].parts[0])
        return [
            name
            for name, path in paths.items()
            if name in axes
            or not (_is_axis(name) or (inside and not isinstance(path.parts[0], kind)))
        ]

    def _required(self, axes: tuple[str, ...], others: set[str]) -> set[Path]:
        names = {name for name in others if not _is_axis(name)}
        names |= set(axes) if axes == GYROSCOPE else set(ACCELEROMETER)
        return {self._layout.fields[name] for name in names}

    def _together(self, axes: tuple[str, ...]) -> set[Path]:
        """What a reading has all or none of."""
        optional = GYROSCOPE if axes != GYROSCOPE and GYROSCOPE[0] in axes else ()
        return {self._layout.fields[name] for name in optional}

    def _id(self) -> dict[Path, Any]:
        """The device id; where readings are in a list, they or the message have it."""
        if self._layout.device_id is not None:
            return {self._layout.device_id: {"type": ["string", "integer"]}}
        if self._is_plain:
            said = "The device; the same as the message's key. Optional."
            return {Path(("device_id",)): {"type": "string", "description": said}}
        return {}

    def _shared(self, name: str) -> dict[str, Any]:
        """Of a field beside a list of readings."""
        value = self._value(name)
        return {"anyOf": [value, _list(value)]} if name == "timestamp" else value

    def _value(self, name: str) -> dict[str, Any]:
        """Of one value of a field."""
        settings, units = self._settings, self._layout.units
        kind: Any = ["number", "string"] if settings.numeric_strings else "number"
        if name in {"timestamp", "start"}:
            said = TIMES.get(settings.time_unit, "")
            what = (
                "When the sensor was read" if name == "timestamp" else "Time of the first reading"
            )
            if settings.time_unit == "iso8601":
                return {"type": "string", "description": f"{what}: {said}."}
            return {"type": kind, "minimum": 0, "description": f"{what}: {said}."}
        if name == "rate":
            return {"type": kind, "exclusiveMinimum": 0, "description": "Readings a second."}
        if name == "period":
            unit = settings.time_unit if settings.time_unit in {"ms", "us", "ns"} else "s"
            said = f"Time between two readings, {unit}."
            return {"type": kind, "exclusiveMinimum": 0, "description": said}
        axis = name[-1]
        if name in ACCELEROMETER:
            limit, said = MAX_ACCELERATION / units.acceleration, settings.accel_unit
            what = f"Acceleration along {axis} with gravity"
        else:
            limit, said = MAX_ANGULAR_VELOCITY / units.angular_velocity, settings.gyro_unit
            what = f"Angular velocity about {axis}"
        bound = float(f"{abs(limit):.6g}")
        return {
            "type": kind,
            "minimum": -bound,
            "maximum": bound,
            "description": f"{what}, {said}.",
        }


def _is_axis(name: str) -> bool:
    return name in ACCELEROMETER or name in GYROSCOPE


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "maxItems": MAX_READINGS}


def _object(
    places: Mapping[Path, Any], required: Iterable[Path], together: Iterable[Path] = ()
) -> dict[str, Any]:
    """What has values at some paths.

    Parameters
    ----------
    places
        Schemas by path.
    required
        Those that must be there.
    together
        Those that are all there or none.
    """
    inner: dict[str | int, dict[Path, Any]] = {}
    for path, schema in places.items():
        inner.setdefault(path.parts[0], {})[Path(path.parts[1:])] = schema
    needed = _below(required)
    optional = _below(together)
    children = {
        part: below[Path(())]
        if Path(()) in below
        else _child(below, needed.get(part, set()), optional.get(part, set()))
        for part, below in inner.items()
    }
    if children.keys() == {EACH}:
        return _list(children[EACH])
    if all(isinstance(part, int) for part in children):
        return _array(children, needed)
    names = [part for part in children if part in optional and len(optional) > 1]
    found: dict[str, Any] = {
        "type": "object",
        "properties": {str(part): schema for part, schema in children.items()},
        "required": [str(part) for part in children if part in needed],
    }
    if names:
        found["dependentRequired"] = {
            str(name): [str(other) for other in names if other != name] for name in names
        }
    return found


def _child(below: dict[Path, Any], required: set[Path], together: set[Path]) -> dict[str, Any]:
    """What is in one place; null where all that is in it may be missing together."""
    if together == set(below):
        found = _object(below, together)
        return {**found, "type": [found["type"], "null"]}
    return _object(below, required, together)


def _array(children: Mapping[str | int, Any], needed: Mapping[str | int, Any]) -> dict[str, Any]:
    places = {part: schema for part, schema in children.items() if isinstance(part, int)}
    if min(places) < 0:
        return {"type": "array"}
    least = max((part for part in needed if isinstance(part, int)), default=-1) + 1
    items = [places.get(place, {}) for place in range(max(places) + 1)]
    return {"type": "array", "prefixItems": items, "minItems": least}


def _below(paths: Iterable[Path]) -> dict[str | int, set[Path]]:
    """Paths by their first part, without it."""
    found: dict[str | int, set[Path]] = {}
    for path in paths:
        found.setdefault(path.parts[0], set()).add(Path(path.parts[1:]))
    return found
