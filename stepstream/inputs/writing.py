"""Messages of readings, written as the settings say: for simulated devices, and to try settings."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stepstream.errors import SettingsError
from stepstream.inputs.columns import ACCELEROMETER, GYROSCOPE
from stepstream.inputs.encoders import make_encoder
from stepstream.inputs.layout import Layout
from stepstream.inputs.paths import Path
from stepstream.settings import RegistrySettings
from stepstream.settings.paths import EACH

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from stepstream.settings import InputSettings

__all__ = ["MessageWriter", "Written", "device_name"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_US = {"s": 1e-6, "ms": 1e-3, "us": 1, "ns": 1000}
_FRACTIONS = {"m/s2", "g", "rad/s", "deg/s"}
"""Units in which readings have fractions; in all others they are integers."""


class Written(NamedTuple):
    """A message."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def device_name(settings: InputSettings, number: int) -> str:
    """The id of a simulated device that the keys can express."""
    if settings.device_id == "key" and settings.key in {"int32", "int64"}:
        return str(number)
    if settings.device_id == "key" and settings.key == "uuid":
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"walker-{number}"))
    return f"walker-{number}"


class MessageWriter:
    """Writes readings as messages that the same settings read.

    Parameters
    ----------
    settings
        How messages are written.
    decimals
        Values are rounded to these, in units that have fractions; None leaves them as they are.
    registry, topic
        See `make_encoder`; for formats with a schema.

    Raises
    ------
    SettingsError
        The format can't be written, or there is no schema that can be used.
    """

    def __init__(
        self,
        settings: InputSettings,
        decimals: int | None = 5,
        registry: RegistrySettings | None = None,
        topic: str = "",
    ) -> None:
        self._decimals = decimals
        self._settings = settings
        self._layout = Layout.of(settings)
        self._encode = make_encoder(settings, registry or RegistrySettings(), topic)

    def write(
        self, device_id: str, time_us: NDArray[np.int64], axes: NDArray[np.float64]
    ) -> list[Written]:
        """Write some readings of a device, in one message, or in one for each sensor.

        Parameters
        ----------
        device_id
            The device.
        time_us : (n,) int64
            Microseconds since the epoch; evenly spaced if the layout has a period or a rate.
        axes : (n, 6) float64
            m/s^2 and rad/s; without a gyroscope the last three are 0 in all rows.
        """
        layout = self._layout
        fields = self._fields(time_us, axes)
        sensor = layout.sensor
        if sensor is None:
            groups: list[tuple[tuple[str, ...], dict[Path, Any]]] = [
                ((*ACCELEROMETER, *GYROSCOPE), {})
            ]
        else:
            groups = [
                (ACCELEROMETER, {sensor.path: sensor.accelerometer}),
                (GYROSCOPE, {sensor.path: sensor.gyroscope}),
            ]
        parts = [
            ({name: fields[name] for name in ("timestamp", *axes_of) if name in fields}, more)
            for axes_of, more in groups
            if axes_of[0] in fields
        ]
        beside = {layout.device_id: device_id} if layout.device_id is not None else {}
        if layout.readings is not None:
            items = [item for own, more in parts for item in self._items(own, more)]
            documents = [_document({layout.readings: items, **self._distance(time_us), **beside})]
        elif len(time_us) == 1:
            documents = [
                item
                for own, more in parts
                for item in self._items(own, {**more, **self._distance(time_us), **beside})
            ]
        elif self._is_list:
            documents = [
                [one for own, more in parts for one in self._items(own, {**more, **beside})]
            ]
        else:
            documents = [
                _document(
                    {
                        **{layout.fields[name]: column for name, column in own.items()},
                        **more,
                        **self._distance(time_us),
                        **beside,
                    }
                )
                for own, more in parts
            ]
        key, headers = self._key(device_id), self._headers(device_id)
        return [Written(key, self._encode(document), headers) for document in documents]

    @property
    def _is_list(self) -> bool:
        """Whether several readings are a list as the message: one with places for its fields."""
        return isinstance(self._layout.fields[ACCELEROMETER[0]].parts[0], int)

    def _items(self, fields: Mapping[str, list[Any]], more: Mapping[Path, Any]) -> list[Any]:
        paths = [self._layout.fields[name] for name in fields]
        return [
            _document({**dict(zip(paths, row, strict=True)), **more})
            for row in zip(*fields.values(), strict=True)
        ]

    def _fields(
        self, time_us: NDArray[np.int64], axes: NDArray[np.float64]
    ) -> dict[str, list[Any]]:
        """Columns of the fields that each reading has."""
        settings, units = self._settings, self._layout.units
        fields: dict[str, list[Any]] = {}
        if "timestamp" in self._layout.fields:
            fields["timestamp"] = [self._time(one) for one in time_us.tolist()]
        sensors = [(ACCELEROMETER, units.acceleration, settings.accel_unit, 0)]
        if axes[:, 3:].any():
            sensors.append((GYROSCOPE, units.angular_velocity, settings.gyro_unit, 3))
        for names, factor, unit, first in sensors:
            for place, name in enumerate(names, first):
                column = axes[:, place] / factor
                if unit not in _FRACTIONS:
                    column = np.rint(column).astype(np.int64)
                elif self._decimals is not None:
                    column = column.round(self._decimals)
                fields[name] = column.tolist()
        if settings.numeric_strings:
            fields = {name: list(map(str, column)) for name, column in fields.items()}
        return fields

    def _distance(self, time_us: NDArray[np.int64]) -> dict[Path, Any]:
        """The first time and the distance, if the layout has them."""
        paths = self._layout.fields
        found: dict[Path, Any] = {}
        period_us = float(time_us[-1] - time_us[0]) / (len(time_us) - 1) if len(time_us) > 1 else 1
        if "start" in paths:
            found[paths["start"]] = self._time(int(time_us[0]))
        if "period" in paths:
            found[paths["period"]] = period_us * _PER_US.get(self._settings.time_unit, 1e-6)
        if "rate" in paths:
            found[paths["rate"]] = 1e6 / period_us
        return found

    def _time(self, time_us: int) -> Any:
        unit = self._settings.time_unit
        if unit == "iso8601":
            return (_EPOCH + timedelta(microseconds=time_us)).isoformat()
        if unit == "ms" and time_us % 1000 == 0:
            return time_us // 1000
        return time_us / 1e6 if unit == "s" else time_us * _PER_US[unit]

    def _key(self, device_id: str) -> bytes:
        kind = self._settings.key
        if self._settings.device_id != "key" or kind == "text":
            return device_id.encode()
        try:
            if kind == "uuid":
                return uuid.UUID(device_id).bytes
            if kind == "json":
                return msgspec.json.encode(device_id)
            return int(device_id).to_bytes(4 if kind == "int32" else 8, "big", signed=True)
        except (ValueError, OverflowError):
            raise SettingsError(f"the device id {device_id!r} can't be a key of {kind}") from None

    def _headers(self, device_id: str) -> tuple[tuple[str, bytes], ...]:
        name = self._layout.device_id_header
        return ((name, device_id.encode()),) if name is not None else ()


def _document(content: Mapping[Path, Any]) -> Any:
    """A document that has some values at their paths."""
    tree: dict[str | int, Any] = {}
    for path, value in chain.from_iterable(starmap(_places, content.items())):
        inner = tree
        for part in path.parts[:-1]:
            inner = inner.setdefault(part, {})
        inner[path.parts[-1]] = _Value(value)
    return _plain(tree)


def _places(path: Path, value: Any) -> Iterator[tuple[Path, Any]]:
    """The path of each value, if the path leads to each item of a list."""
    if not path.is_of_items:
        yield path, value
        return
    place = path.parts.index(EACH)
    for number, one in enumerate(value if isinstance(value, list) else [value]):
        yield Path((*path.parts[:place], number, *path.parts[place + 1 :])), one


class _Value(NamedTuple):
    content: Any


def _plain(node: Any) -> Any:
    if isinstance(node, _Value):
        return node.content
    if all(isinstance(part, int) and part >= 0 for part in node):
        return [_plain(node[i]) if i in node else None for i in range(max(node) + 1)]
    return {str(part): _plain(inner) for part, inner in node.items()}
