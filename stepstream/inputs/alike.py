"""Messages that have one layout of bytes: NumPy reads many of them at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stepstream.inputs.columns import ACCELEROMETER, FIELDS, GYROSCOPE, MAX_READINGS, Columns
from stepstream.inputs.strides import PADDING, ItemLayout, Segment
from stepstream.inputs.validation import MAX_TIME_US

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray
    from typing_extensions import TypeIs

    from stepstream.inputs.errors import InvalidMessage
    from stepstream.inputs.layout import Layout
    from stepstream.inputs.parsers import Parser

__all__ = ["Alike", "AlikeReader", "has_layouts"]

LEAST_MESSAGES = 4
"""Fewer messages of one layout are parsed one by one."""
MAX_LAYOUTS = 64
"""Layouts that are remembered."""
MOST_NEW = 4
"""Layouts that are looked for among the messages of one size, in each poll."""


class Alike(Protocol):
    """A parser of messages that often have the same layout of bytes."""

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""

    def find_layout(self, value: bytes) -> ItemLayout | None:
        """The layout of a message's bytes, or None if it is no valid message of numbers.

        All wanted values of a message with this layout are in the layout's segments.
        """


def has_layouts(parser: Parser) -> TypeIs[Alike]:
    """Whether a parser can say which layout a message has."""
    return hasattr(parser, "find_layout")


class AlikeReader:
    """Reads the messages of a poll that have a layout of bytes in common.

    The messages of a fleet with one firmware differ in their numbers only, as long as integers
    don't grow by a byte: counts, lengths, tags and branches are the same bytes in the same places.
    So one message is looked at, and all that agree with it in these bytes become columns without
    being parsed. It gives what parsing gives, number by number.

    Parameters
    ----------
    parser
        Finds layouts.
    layout
        Where in the messages the readings are.
    """

    def __init__(self, parser: Alike, layout: Layout) -> None:
        self._parser = parser
        self._unit_us = layout.units.time_us
        head = layout.readings.parts if layout.readings else ()
        self._is_list = bool(head)
        self._paths = {
            name: tuple(map(str, (*head, *layout.fields[name].parts)))
            for name in FIELDS
            if name in layout.fields
        }
        self._beside = {(*map(str, layout.fields[name].parts),) for name in self._paths if head}
        """Where a value may be that all readings of a list share."""
        self._needs_time = "timestamp" in layout.required
        self._layouts: dict[tuple[int, int], ItemLayout] = {}
        """By size, and a number."""
        self._next_number = 0

    @classmethod
    def of(cls, parser: Alike, layout: Layout) -> AlikeReader | None:
        """The reader of a layout, or None if its messages have to be looked at one by one."""
        by_name = all(path.is_of_names for path in layout.wanted)
        is_plain = layout.fields.keys() <= set(FIELDS) and layout.sensor is None
        is_timed = not (layout.time_is_text or layout.time_is_of_record)
        if by_name and is_plain and is_timed and layout.device_id is None:
            return cls(parser, layout)
        return None

    def is_open(self, message: Any) -> bool:
        """Whether something is what `open` gives."""
        return type(message) is bytes

    def open_all(self, values: Sequence[bytes | None]) -> list[Any]:
        """What `open` gives of each value."""
        return list(values)

    def open(self, value: bytes) -> bytes:
        """What `read` takes: the message as it is."""
        return value

    def device_id(self, message: Any) -> bytes:
        """A layout with the device in the message is not read here."""
        del message
        raise RuntimeError("the layout has no path of the device id")

    def read(
        self, rows: Sequence[int], messages: Sequence[Any], invalid: dict[int, InvalidMessage]
    ) -> tuple[Columns, dict[int, bytes]]:
        """The readings of messages that have a layout in common with others.

        Parameters
        ----------
        rows : (n,)
            Row of each among all messages, ascending.
        messages : (n,)
            The messages.
        invalid
            See `TypedReader.read`; a message that may be invalid is left to the parser here.

        Returns
        -------
        columns
            The readings.
        others
            Messages to be parsed one by one, by their row.
        """
        del invalid
        by_size: dict[int, list[int]] = {}
        for place, message in enumerate(messages):
            by_size.setdefault(len(message), []).append(place)
        others: dict[int, bytes] = {}
        parts: list[Columns] = []
        for size, found in by_size.items():
            places = np.array(found)
            if size and len(places) >= LEAST_MESSAGES:
                places = self._read_alike(size, places, rows, messages, parts)
            others.update((rows[place], messages[place]) for place in places.tolist())
        return Columns.merge(parts), others

    def _read_alike(
        self,
        size: int,
        places: NDArray[np.intp],
        rows: Sequence[int],
        messages: Sequence[bytes],
        parts: list[Columns],
    ) -> NDArray[np.intp]:
        """Read messages of one size, by each layout that some have; the places of the others."""
        for layout in [one for (known, _), one in self._layouts.items() if known == size]:
            places = _read_group(self, layout, places, rows, messages, parts)
        for _ in range(MOST_NEW):
            if len(places) < LEAST_MESSAGES:
                break
            new = self._parser.find_layout(messages[places[0]])
            if new is None:
                break
            left = _read_group(self, new, places, rows, messages, parts)
            if len(places) - len(left) >= LEAST_MESSAGES:
                self._remember(size, new)
            if len(left) == len(places):
                break
            places = left
        return places

    def _remember(self, size: int, layout: ItemLayout) -> None:
        self._layouts[size, self._next_number] = layout
        self._next_number += 1
        if len(self._layouts) > MAX_LAYOUTS:
            del self._layouts[next(iter(self._layouts))]

    def columns(
        self, layout: ItemLayout, data: bytes, count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]] | None:
        """The columns of messages with a layout.

        Returns
        -------
        columns : (7, count, n) float64
            For n readings in each message; NaN in place of what no message has.
        is_given : (7,) bool
            Which columns the messages have. None in place of both if the messages have no readings
            in the usual form.
        """
        segments: dict[tuple[str, ...], list[Segment]] = {}
        for segment in layout.segments:
            segments.setdefault(segment.path, []).append(segment)
        given = {name: segments[path] for name, path in self._paths.items() if path in segments}
        shapes = {segment.numbers for these in given.values() for segment in these}
        if len(shapes) != 1 or any(s.dtype == "?" for these in given.values() for s in these):
            return None
        (numbers,) = shapes
        has_gyroscope = [name in given for name in GYROSCOPE]
        if (
            not all(name in given for name in ACCELEROMETER)
            or len(set(has_gyroscope)) > 1
            or ("timestamp" not in given and (self._needs_time or numbers is not None))
            or (self._is_list and (numbers is None or self._beside & segments.keys()))
            or (numbers or 0) > MAX_READINGS
        ):
            return None
        columns = np.full((len(FIELDS), count, numbers or 1), np.nan)
        for place, name in enumerate(FIELDS):
            for segment in given.get(name, ()):
                values = layout.numbers(segment, data, count).reshape(count, -1)
                with np.errstate(invalid="ignore"):  # a NaN that signals
                    columns[place] = columns[place] + values if segment.adds else values
        with np.errstate(over="ignore"):
            columns[0] *= self._unit_us
        return columns, np.array([name in given for name in FIELDS])


def _read_group(
    reader: AlikeReader,
    layout: ItemLayout,
    places: NDArray[np.intp],
    rows: Sequence[int],
    messages: Sequence[bytes],
    parts: list[Columns],
) -> NDArray[np.intp]:
    """Read the messages that have a layout; the places of the others."""
    if not len(places):
        return places
    data = _join(messages, places)
    is_alike = layout.find(data, 0, len(places))
    if not is_alike.all():
        alike, places = places[is_alike], places[~is_alike]
        if not len(alike):
            return places
        data = _join(messages, alike)
    else:
        alike, places = places, places[:0]
    found = reader.columns(layout, data, len(alike))
    if found is None:
        return np.sort(np.concatenate([alike, places]))
    columns, is_given = found
    # What is wrong with a message is for the parser to say.
    good = _has_good_numbers(columns, is_given)
    if not good.all():
        places = np.sort(np.concatenate([alike[~good], places]))
        alike, columns = alike[good], columns[:, good]
    message = np.repeat(np.array(rows, np.intp)[alike], columns.shape[2])
    parts.append(Columns(message, columns.reshape(len(FIELDS), -1), None))
    return places


def _has_good_numbers(
    columns: NDArray[np.float64], is_given: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which messages have finite numbers in the given columns, and times since 1970."""
    is_good = np.isfinite(columns[is_given]).all(axis=(0, 2))
    if is_given[0]:
        is_good &= ((columns[0] >= 0) & (columns[0] <= MAX_TIME_US)).all(axis=1)
    return np.asarray(is_good)


def _join(messages: Sequence[bytes], places: Iterable[Any]) -> bytes:
    return b"".join([*[messages[place] for place in places], PADDING])
