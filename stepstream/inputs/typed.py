"""Messages in the usual form of a layout, decoded without a dict for each object.

A parser makes a dict of each object of a message, and most of the time goes there. Where all paths
are names, msgspec can decode into structs that have only the fields that are wanted.
"""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import chain, repeat, starmap
from operator import attrgetter
from struct import Struct
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from stepstream.inputs.columns import (
    ACCELEROMETER,
    ACCELEROMETER_BIT,
    FIELDS,
    GYROSCOPE,
    GYROSCOPE_BIT,
    MAX_READINGS,
    Columns,
)
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.identities import id_of_readings
from stepstream.inputs.paths import Path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.layout import Layout

    Tree = dict[str, Any]
    """By name: a tree, or a `_Leaf`."""

__all__ = ["NotTyped", "TypedReader", "TypedReadings"]

_NAN = math.nan
_pack = Struct(f"={len(FIELDS)}d").pack
_pack_sensor = Struct("=4d").pack
_NOT_AS_EXPECTED = (msgspec.DecodeError, TypeError, ValueError, RecursionError, OverflowError)


class NotTyped(Exception):  # noqa: N818 - a finding about data
    """A message is in another form, which `DocumentReader` may know; or it is invalid."""


class TypedReadings(NamedTuple):
    """The readings of a message, its value, and what it says of its device, if anything."""

    items: list[Any]
    value: bytes
    device_id: Any


class _Leaf(NamedTuple):
    kind: Any
    default: Any


class TypedReader:
    """Decodes messages in which each reading has all its fields beside each other.

    Parameters
    ----------
    layout
        Where the fields are.
    make_decoder
        Makes a decoder of a type: msgspec's class for the encoding.
    has_nan
        Whether the encoding can express NaN. If not, NaN stands for what is missing.
    """

    def __init__(
        self, layout: Layout, make_decoder: Callable[[Any], Any], *, has_nan: bool
    ) -> None:
        self._layout = layout
        self._has_nan = has_nan
        item: Tree = {}
        names = [name for name in FIELDS if name in layout.fields]
        for name in names:
            is_required = name in layout.required or has_nan
            if layout.sensor is not None and name != "timestamp":
                is_required = False
            default = msgspec.NODEFAULT if is_required else _NAN
            _put(item, layout.fields[name], _Leaf(float, default))
        if layout.sensor is not None:
            _put(item, layout.sensor.path, _Leaf(str | int, msgspec.NODEFAULT))
        if layout.device_id is not None:
            _put(item, layout.device_id, _Leaf(str | int | None, None))
        self.item_type, attributes = _make_struct(item)
        item_type = self.item_type
        places = [attributes.get(layout.fields.get(name)) for name in FIELDS]
        self._columns = [place for place, one in enumerate(places) if one is not None]
        self._get = attrgetter(*(one for one in places if one is not None))
        if layout.sensor is not None:
            self._get_sensor = attrgetter(attributes[layout.sensor.path])
            self._get_axes = [
                attrgetter(*(attributes[layout.fields[name]] for name in ("timestamp", *axes)))
                for axes in (ACCELEROMETER, GYROSCOPE)
            ]
        self._get_id = None
        if layout.device_id is not None:
            self._get_id = attrgetter(attributes[layout.device_id])
        self._get_items = self._get_id_of_message = None
        if layout.readings is None:
            self._decode = make_decoder(item_type | list[item_type]).decode  # type: ignore[valid-type]
            return
        message: Tree = {}
        _put(message, layout.readings, _Leaf(list[item_type], msgspec.NODEFAULT))  # type: ignore[valid-type]
        if layout.device_id is not None:
            _put(message, layout.device_id, _Leaf(str | int | None, None))
        message_type, attributes = _make_struct(message)
        self._get_items = attrgetter(attributes[layout.readings])
        if layout.device_id is not None:
            self._get_id_of_message = attrgetter(attributes[layout.device_id])
        self._decode = make_decoder(message_type).decode

    @classmethod
    def of(
        cls, layout: Layout, make_decoder: Callable[[Any], Any], *, has_nan: bool
    ) -> TypedReader | None:
        """The reader of a layout, or None if the layout has no form that can be decoded so."""
        by_name = all(path.is_of_names for path in layout.wanted)
        timed = layout.fields.keys() <= {"timestamp", *ACCELEROMETER, *GYROSCOPE}
        has_numbers = not (layout.time_is_text or layout.numeric_strings)
        if not (by_name and timed and has_numbers) or layout.rate_hz is not None:
            return None
        if layout.sensor is not None and (has_nan or layout.time_is_of_record):
            return None
        try:
            return cls(layout, make_decoder, has_nan=has_nan)
        except _Clash:
            return None

    def is_open(self, message: Any) -> bool:
        """Whether something is what `open` gives."""
        return type(message) is self.item_type or type(message) is TypedReadings

    def open_all(self, values: Sequence[bytes | None]) -> list[Any] | None:
        """What `open` gives of each value, if all messages are in this form."""
        try:
            messages = list(map(self._decode, values))
        except _NOT_AS_EXPECTED:
            return None
        if self._get_items is None and set(map(type, messages)) == {self.item_type}:
            return messages
        try:
            return list(map(self._opened, messages, values))  # type: ignore[arg-type]
        except NotTyped:
            return None

    def open(self, value: bytes) -> Any:
        """What `read` takes: a reading, or `TypedReadings`.

        Raises
        ------
        NotTyped
            The message is in another form.
        """
        try:
            message = self._decode(value)
        except _NOT_AS_EXPECTED:
            raise NotTyped from None
        return self._opened(message, value)

    def _opened(self, message: Any, value: bytes) -> Any:
        if type(message) is self.item_type:
            return message
        items = message if self._get_items is None else self._get_items(message)
        if len(items) > MAX_READINGS:
            raise NotTyped
        get_id = self._get_id_of_message
        return TypedReadings(items, value, None if get_id is None else get_id(message))

    def device_id(self, message: Any) -> bytes:
        """The device that a message names, see `id_of_readings`."""
        path, get = self._layout.device_id, self._get_id
        if path is None or get is None:
            raise RuntimeError("the layout has no path of the device id")
        if type(message) is self.item_type:
            return id_of_readings([get(message)], None, path)
        return id_of_readings(list(map(get, message.items)), message.device_id, path)

    def read(
        self, rows: Sequence[int], messages: Sequence[Any], invalid: dict[int, InvalidMessage]
    ) -> tuple[Columns, dict[int, bytes]]:
        """The readings of messages that were opened.

        Parameters
        ----------
        rows : (n,)
            Row of each among all messages, ascending.
        messages : (n,)
            The messages.
        invalid
            Invalid messages are added, by their row.

        Returns
        -------
        columns
            The readings.
        others
            Values of messages that lack something in their readings, by row. It may be beside
            the readings: `DocumentReader` finds it there.
        """
        message = np.asarray(rows, np.intp)
        items: Iterable[Any] = messages
        if set(map(type, messages)) != {self.item_type}:
            lists = [(one,) if type(one) is self.item_type else one.items for one in messages]
            message = np.repeat(message, list(map(len, lists)))
            items = chain.from_iterable(lists)
        sensors = None
        if self._layout.sensor is None:
            columns = self._read_joined(items, len(message))
        else:
            message, columns, sensors = self._read_sensors(list(items), message)
        found = Columns(message, columns, sensors)
        others: dict[int, bytes] = {}
        if np.isfinite(columns).all():
            return self._in_microseconds(found), others
        single = [row for row, one in zip(rows, messages, strict=True) if not _is_list(one)]
        doubtful = message[self._doubtful(columns, np.isin(message, single))]
        if len(doubtful):
            at = dict(zip(rows, messages, strict=True))
            for row in np.unique(doubtful).tolist():
                if _is_list(at[row]):
                    others[row] = at[row].value
                else:
                    invalid[row] = self._explain(columns[:, np.searchsorted(message, row)])
            found = found.without({*others, *invalid})
        return self._in_microseconds(found), others

    def _in_microseconds(self, found: Columns) -> Columns:
        with np.errstate(over="ignore"):  # it is in the future then
            found.columns[0] *= self._layout.units.time_us
        return found

    def _read_joined(self, items: Iterable[Any], count: int) -> NDArray[np.float64]:
        width = len(self._columns)
        pack = _pack if width == len(FIELDS) else Struct(f"={width}d").pack
        packed = bytearray().join(starmap(pack, map(self._get, items)))
        read = np.frombuffer(packed).reshape(count, width).T
        if width == len(FIELDS):
            return read
        columns = np.full((len(FIELDS), count), _NAN)
        columns[self._columns] = read
        return columns

    def _read_sensors(
        self, items: list[Any], message: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.uint8]]:
        sensor = self._layout.sensor
        if sensor is None:
            raise RuntimeError("the layout has no sensors")
        bit_of = {sensor.accelerometer: ACCELEROMETER_BIT, sensor.gyroscope: GYROSCOPE_BIT}
        bits = np.fromiter(
            map(bit_of.get, map(self._get_sensor, items), repeat(0)), np.uint8, len(items)
        )
        columns = np.zeros((len(FIELDS), len(items)))
        places = (slice(1, 4), slice(4, 7))
        for bit, get, axes in zip(
            (ACCELEROMETER_BIT, GYROSCOPE_BIT), self._get_axes, places, strict=True
        ):
            chosen = np.flatnonzero(bits == bit)
            if not len(chosen):
                continue
            mine = items if len(chosen) == len(items) else [items[i] for i in chosen.tolist()]
            read = np.frombuffer(bytearray().join(starmap(_pack_sensor, map(get, mine))))
            numbers = read.reshape(-1, 4).T
            columns[0, chosen] = numbers[0]
            columns[axes, chosen] = numbers[1:]
        known = bits > 0
        if not known.all():
            message, columns, bits = message[known], columns[:, known], bits[known]
        # As `DocumentReader` orders them: in a message, those of the accelerometer first.
        if (np.diff(message) == 0).any():
            order = np.lexsort((bits, message))
            message, columns, bits = message[order], columns[:, order], bits[order]
        return message, columns, bits

    def _doubtful(
        self, columns: NDArray[np.float64], in_message: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """The readings that lack something, or have a number that is none.

        A message that is a reading (``in_message``) may lack its time, or all of the gyroscope.
        """
        finite = np.isfinite(columns)
        if self._has_nan:
            given = finite[self._columns].all(axis=0)
            return np.asarray(~given)
        whole = finite[1:].all(axis=0)
        if self._layout.sensor is None:
            whole |= finite[1:4].all(axis=0) & ~finite[4:].any(axis=0)
        return np.asarray(~(finite.all(axis=0) | (whole & in_message)))

    def _explain(self, reading: NDArray[np.float64]) -> InvalidMessage:
        """Why a message that is a doubtful reading is invalid."""
        paths = self._layout.fields
        numbers = dict(zip(FIELDS, reading.tolist(), strict=True))
        wrong = [name for name in paths if not math.isfinite(numbers[name])]
        if self._has_nan:
            return InvalidMessage(ErrorCode.NOT_FINITE, f"{paths[wrong[0]]} is {numbers[wrong[0]]}")
        axis = next(name for name in wrong if name != "timestamp")
        others = "" if self._layout.sensor else ", the others are not"
        return InvalidMessage(ErrorCode.MISSING_FIELD, f"{paths[axis]} is missing{others}")


def _is_list(message: Any) -> bool:
    return type(message) is TypedReadings


class _Clash(Exception):  # noqa: N818 - the layout is right, but not for this reader
    """Something is wanted at a path, and something else within it."""


def _put(tree: Tree, path: Path, leaf: _Leaf) -> None:
    *outer, last = map(str, path.parts)
    for name in outer:
        tree = tree.setdefault(name, {})
        if isinstance(tree, _Leaf):
            raise _Clash
    if tree.setdefault(last, leaf) != leaf:
        raise _Clash


def _make_struct(tree: Tree) -> tuple[type[msgspec.Struct], dict[Any, str]]:
    """A struct with the leaves of a tree, and the attribute that has each, by path."""
    fields, attributes = [], {}
    for number, (name, node) in enumerate(tree.items()):
        attribute = f"field_{number}"
        if isinstance(node, _Leaf):
            fields.append((attribute, node.kind, msgspec.field(default=node.default, name=name)))
            attributes[Path((name,))] = attribute
            continue
        kind, inner = _make_struct(node)
        default: Any = msgspec.NODEFAULT
        with suppress(TypeError):  # it has no required fields
            default = kind()
        fields.append((attribute, kind, msgspec.field(default=default, name=name)))
        attributes |= {
            Path((name, *path.parts)): f"{attribute}.{rest}" for path, rest in inner.items()
        }
    made = msgspec.defstruct("Fields", fields, frozen=True, gc=False, kw_only=True)
    return made, attributes
