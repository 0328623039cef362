"""The axes of one sensor or of both, and their times, from many messages at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.inputs.columns import FIELDS, MAX_READINGS
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.extraction import PathTree
from stepstream.inputs.leaves import read_numbers, read_times, to_numbers
from stepstream.inputs.paths import MISSING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.layout import Layout
    from stepstream.inputs.leaves import Leaf

__all__ = ["AxesReader", "Messages", "Part"]

_TIMES = ("timestamp", "start", "period", "rate")
_NOWHERE, _IN_ITEM, _IN_MESSAGE = range(3)
_MOST_SHAPES = 64
_LONGEST_PERIOD_US = 1e12


class Messages(NamedTuple):
    """Messages of one kind, as the columns of a table.

    Attributes
    ----------
    rows : (n,)
        Their rows among all messages.
    documents : (n,)
        What the parser made of them.
    items : (n,)
        The list of readings in each, not empty; None if each message is one.
    """

    rows: Sequence[int]
    documents: Sequence[Any]
    items: Sequence[Any] | None

    def take(self, which: slice | list[int]) -> Messages:
        """Some of them."""
        return Messages(*(None if column is None else _take(column, which) for column in self))  # type: ignore[arg-type]


class Part(NamedTuple):
    """Readings of some messages: their messages (n,), and columns (7, n) as in `FIELDS`."""

    message: NDArray[np.intp]
    columns: NDArray[np.float64]


class _Shape(NamedTuple):
    """Where a message has each field, and of which kind its lists are: what is read at once."""

    places: tuple[int, ...]
    kinds: tuple[Any, ...]


class AxesReader:
    """Reads some axes and their times.

    Parameters
    ----------
    layout
        Where they are.
    required, optional
        The axes that each reading has to have, and those that it has all or none of.
    """

    def __init__(
        self, layout: Layout, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> None:
        self._layout = layout
        self._required, self._optional = required, optional
        self._names = (
            *required,
            *optional,
            *(name for name in _TIMES if name in layout.fields),
        )
        self._paths = {name: layout.fields[name] for name in self._names}
        unit_us = layout.units.time_us
        strings = layout.numeric_strings
        number = partial(to_numbers, strings=strings)
        time = partial(read_times, iso=layout.time_is_text, unit_us=unit_us, strings=strings)
        self._convert = dict.fromkeys(self._names, number)
        self._convert |= {"timestamp": time, "start": time}
        self._tree = lru_cache(_MOST_SHAPES)(self._make_tree)
        self._whole = tuple(_IN_ITEM for _ in self._names)

    def _make_tree(self, names: tuple[str, ...]) -> PathTree:
        return PathTree({name: self._paths[name] for name in names})

    def read(
        self,
        messages: Messages,
        record_ms: NDArray[np.int64],
        invalid: dict[int, InvalidMessage],
    ) -> list[Part]:
        """The readings of messages; `DocumentReader.read` says what is given.

        All messages are read at once if each has all fields in its items. Otherwise those that
        have the same fields in the same places are.
        """
        try:
            return [self._read(messages, self._whole, record_ms)]
        except InvalidMessage:
            pass
        groups: dict[_Shape, list[int]] = {}
        for place, document in enumerate(messages.documents):
            items = messages.items and messages.items[place]
            shape = self._shape(document, document if items is None else items[0], items)
            groups.setdefault(shape, []).append(place)
        parts: list[Part] = []
        for shape, places in groups.items():
            self._read_or_halve(messages.take(places), shape.places, record_ms, invalid, parts)
        return parts

    def _read_or_halve(
        self,
        messages: Messages,
        places: tuple[int, ...],
        record_ms: NDArray[np.int64],
        invalid: dict[int, InvalidMessage],
        parts: list[Part],
    ) -> None:
        """Read messages of one shape; if one of them is invalid, each half, down to that one."""
        try:
            parts.append(self._read(messages, places, record_ms))
        except InvalidMessage as error:
            count = len(messages.rows)
            if count == 1:
                invalid[messages.rows[0]] = error.without_traceback()
                return
            for half in (slice(count // 2), slice(count // 2, count)):
                self._read_or_halve(messages.take(half), places, record_ms, invalid, parts)

    def _shape(self, document: Any, first: Any, items: Any) -> _Shape:
        places, kinds = [], [getattr(items, "dtype", type(items))]
        for path in self._paths.values():
            value = path.find(first)
            place = _IN_ITEM
            if value is MISSING:
                value = path.find(document) if items is not None else MISSING
                place = _NOWHERE if value is MISSING else _IN_MESSAGE
            places.append(place)
            kinds.append(isinstance(value, list | np.ndarray))
        return _Shape(tuple(places), tuple(kinds))

    def _read(
        self, messages: Messages, places: tuple[int, ...], record_ms: NDArray[np.int64]
    ) -> Part:
        """The readings of messages that have the fields in the same places.

        Raises
        ------
        InvalidMessage
            One of the messages is invalid; which, is not known if there are several.
        """
        place_of = dict(zip(self._names, places, strict=True))
        axes = self._given_axes(place_of, messages)
        if messages.items is not None and place_of[axes[0]] == _IN_MESSAGE:
            messages = messages._replace(items=None)
            place_of = {name: place and _IN_ITEM for name, place in place_of.items()}
        objects, owner = _objects(messages)
        leaves = self._leaves(objects, place_of, _IN_ITEM)
        leaves |= self._leaves(messages.documents, place_of, _IN_MESSAGE)
        counted = [leaves[name] for name in axes if place_of[name] == _IN_ITEM]
        lengths = _common_lengths(counted)
        spread = _Spread.of(owner, lengths, len(messages.rows))
        if spread.counts.max(initial=0) > MAX_READINGS:
            raise InvalidMessage(
                ErrorCode.TOO_MANY_READINGS,
                f"{spread.counts.max()} readings, at most {MAX_READINGS}",
            )
        columns = np.zeros((len(FIELDS), len(spread.message)))
        for name in axes:
            in_item = place_of[name] == _IN_ITEM
            columns[FIELDS.index(name)] = spread.axis(leaves[name], self._paths[name], in_item)
        rows = np.asarray(messages.rows, np.intp)
        columns[0] = self._times(leaves, place_of, spread, record_ms[rows])
        return Part(rows[spread.message], columns)

    def _given_axes(self, place_of: Mapping[str, int], messages: Messages) -> tuple[str, ...]:
        for name in self._required:
            if not place_of[name]:
                first = messages.items[0][0] if messages.items else messages.documents[0]
                detail = self._paths[name].explain_missing(first)
                raise InvalidMessage(ErrorCode.MISSING_FIELD, detail)
        missing = [name for name in self._optional if not place_of[name]]
        if missing and len(missing) < len(self._optional):
            raise InvalidMessage(
                ErrorCode.MISSING_FIELD, f"{self._paths[missing[0]]} is missing, the others are not"
            )
        return self._required if missing else (*self._required, *self._optional)

    def _leaves(self, objects: Any, place_of: Mapping[str, int], place: int) -> dict[str, Leaf]:
        names = tuple(name for name, where in place_of.items() if where == place)
        if not names:
            return {}
        found = self._tree(names).take(objects)
        return {
            name: read_numbers(values, self._paths[name], self._convert[name])
            for name, values in found.items()
        }

    def _times(
        self,
        leaves: Mapping[str, Leaf],
        place_of: Mapping[str, int],
        spread: _Spread,
        record_ms: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Microseconds since the epoch of each reading; NaN for the time of the record."""
        if "timestamp" in leaves:
            return spread.times(
                leaves["timestamp"], self._paths["timestamp"], place_of["timestamp"] == _IN_ITEM
            )
        for name in self._names:
            if name in self._layout.required and name not in leaves:
                code = ErrorCode.MISSING_TIMESTAMP if name in _TIMES else ErrorCode.MISSING_FIELD
                raise InvalidMessage(code, f"{self._paths[name]} is missing")
        period_us = self._periods_us(leaves, place_of, spread)
        if period_us is None:
            if spread.counts.max(initial=1) > 1:
                raise InvalidMessage(
                    ErrorCode.MISSING_TIMESTAMP, "a message with several readings needs timestamps"
                )
            return np.full(len(spread.message), np.nan)
        if self._layout.time_is_of_record:
            # The record was made when its last reading was there.
            begins = record_ms[spread.message] * 1e3
            return begins + (spread.index + 1 - spread.counts[spread.message]) * period_us
        in_item = place_of["start"] == _IN_ITEM
        begins = spread.scalar(leaves["start"], self._paths["start"], in_item)
        return begins + (spread.index_in_item if in_item else spread.index) * period_us

    def _periods_us(
        self, leaves: Mapping[str, Leaf], place_of: Mapping[str, int], spread: _Spread
    ) -> NDArray[np.float64] | float | None:
        """Time between the readings of a message, for each reading or all; None if not known."""
        layout = self._layout
        name = next((name for name in ("period", "rate") if name in leaves), None)
        if name is None:
            return None if layout.rate_hz is None else 1e6 / layout.rate_hz
        numbers = spread.scalar(leaves[name], self._paths[name], place_of[name] == _IN_ITEM)
        with np.errstate(over="ignore", divide="ignore"):
            period_us = numbers * layout.units.time_us if name == "period" else 1e6 / numbers
        if not ((period_us > 0) & (period_us < _LONGEST_PERIOD_US)).all():
            raise InvalidMessage(ErrorCode.OUT_OF_RANGE, f"{self._paths[name]} is {numbers[0]:.6g}")
        return period_us


@dataclass(frozen=True, slots=True)
class _Spread:
    """Which item and message each reading is of.

    Attributes
    ----------
    item, message : (n,) intp
        Item and message of each reading.
    index_in_item, index : (n,) intp
        Its place among the readings of the item and of the message.
    counts : (m,) intp
        Readings of each message.
    lengths : (k,) intp, or None
        Readings of each item if they are lists.
    """

    item: NDArray[np.intp]
    message: NDArray[np.intp]
    index_in_item: NDArray[np.intp]
    index: NDArray[np.intp]
    counts: NDArray[np.intp]
    lengths: NDArray[np.intp] | None

    @classmethod
    def of(
        cls, owner: NDArray[np.intp], lengths: NDArray[np.intp] | None, messages: int
    ) -> _Spread:
        """Spread the items of some messages, each one reading or as many as ``lengths`` says."""
        item = np.arange(len(owner))
        if lengths is None:
            index_in_item = np.zeros(len(owner), np.intp)
        else:
            item = np.repeat(item, lengths)
            index_in_item = _index_within(lengths, item)
        message = owner[item]
        counts = np.bincount(message, minlength=messages)
        return cls(item, message, index_in_item, _index_within(counts, message), counts, lengths)

    def axis(self, leaf: Leaf, path: object, in_item: bool) -> NDArray[np.float64]:
        """A number for each reading, from items or from messages with as many as have readings."""
        if in_item:
            return leaf.numbers  # their lengths were compared
        expected = np.ones_like(self.counts) if leaf.lengths is None else leaf.lengths
        if (expected != self.counts).any():
            raise InvalidMessage(
                ErrorCode.UNEQUAL_COLUMNS,
                f"{path} has {expected[0]} numbers for {self.counts[0]} readings",
            )
        return leaf.numbers

    def times(self, leaf: Leaf, path: object, in_item: bool) -> NDArray[np.float64]:
        """As `axis`; one time is not that of several readings."""
        expected = self.lengths if in_item else self.counts
        if leaf.lengths is None:
            if expected is not None and (expected != 1).any():
                raise InvalidMessage(
                    ErrorCode.MISSING_TIMESTAMP, f"{path} is one time for several readings"
                )
        elif expected is None or (expected != leaf.lengths).any():
            many = 1 if expected is None else expected[0]
            raise InvalidMessage(
                ErrorCode.UNEQUAL_COLUMNS, f"{path} has {leaf.lengths[0]} times for {many} readings"
            )
        return leaf.numbers

    def scalar(self, leaf: Leaf, path: object, in_item: bool) -> NDArray[np.float64]:
        """The number of the item or the message of each reading."""
        if leaf.lengths is not None:
            raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{path}: expected a number, got a list")
        return leaf.numbers[self.item if in_item else self.message]


def _objects(messages: Messages) -> tuple[Any, NDArray[np.intp]]:
    """What the fields are looked for in, and the message of each."""
    if messages.items is None:
        return messages.documents, np.arange(len(messages.rows))
    counts = np.fromiter(map(len, messages.items), np.intp, len(messages.rows))
    owner = np.repeat(np.arange(len(counts)), counts)
    kinds = set(map(type, messages.items))
    if kinds == {list}:
        return list(chain.from_iterable(messages.items)), owner
    try:
        return np.concatenate(messages.items), owner
    except (TypeError, ValueError):
        raise InvalidMessage(ErrorCode.WRONG_TYPE, "lists of different types") from None


def _common_lengths(leaves: Sequence[Leaf]) -> NDArray[np.intp] | None:
    """How many readings each item has, if its fields are lists of equal length."""
    first = leaves[0].lengths
    for _, lengths in leaves:
        if (lengths is None) != (first is None):
            raise InvalidMessage(ErrorCode.UNEQUAL_COLUMNS, "some fields are lists, some numbers")
        if lengths is not None and first is not None and (lengths != first).any():
            wrong = int(np.argmax(lengths != first))
            raise InvalidMessage(
                ErrorCode.UNEQUAL_COLUMNS, f"lists of {first[wrong]} and {lengths[wrong]} numbers"
            )
    return first


def _index_within(counts: NDArray[np.intp], owner: NDArray[np.intp]) -> NDArray[np.intp]:
    """The place of each among those with its owner, who stand together."""
    return np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]


def _take(column: Sequence[Any], which: slice | list[int]) -> Sequence[Any]:
    return column[which] if isinstance(which, slice) else [column[place] for place in which]
