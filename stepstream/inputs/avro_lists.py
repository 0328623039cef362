"""Readers of Avro's arrays and maps: where numbers allow it, without an object for each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.avro_nodes import (
    Integer,
    Later,
    NoLayoutError,
    Number,
    Object,
    Trace,
    read_length,
    read_long,
)
from stepstream.inputs.columns import MAX_READINGS
from stepstream.inputs.errors import ErrorCode, InvalidMessage
from stepstream.inputs.strides import SAME, ItemLayout, Scale
from stepstream.inputs.varints import read_varints, unfold

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from stepstream.inputs.avro_nodes import Node

__all__ = ["MAX_OBJECTS", "Array", "Budget", "Table"]

MAX_OBJECTS = 8 * MAX_READINGS
"""Items of lists in a message that become Python objects: all numbers of the most readings."""
MAX_LAYOUTS = 4
"""Layouts that the items of a list were found to have, which are tried first."""


class Budget:
    """What a message may still cost."""

    def __init__(self) -> None:
        self.objects = MAX_OBJECTS

    def spend(self, objects: int) -> None:
        """Count objects, and refuse a message with too many."""
        self.objects -= objects
        if self.objects < 0:
            raise InvalidMessage(
                ErrorCode.TOO_MANY_READINGS, f"over {MAX_OBJECTS} objects in lists"
            )


class _Blocks:
    """What arrays and maps share: blocks with a count, the last one empty."""

    def skip(self, data: bytes, position: int) -> int:
        while True:
            count, position = read_long(data, position)
            if not count:
                return position
            if count < 0:
                length, position = read_length(data, position)
                position += length
                continue
            _check_count(data, position, count)
            for _ in range(count):
                position = self._skip_item(data, position)

    def _skip_item(self, data: bytes, position: int) -> int:
        raise NotImplementedError

    def _trace_unwanted(
        self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None
    ) -> int:
        """Items of the same layout have the same bytes here."""
        if path is not None:
            raise NoLayoutError
        end = self.skip(data, position)
        trace.mask += bytes([SAME]) * (end - position)
        return end


class Table(_Blocks):
    """A map.

    Parameters
    ----------
    node
        Reads its values.
    names
        The keys that are wanted.
    budget
        Limits how many there may be.
    """

    def __init__(self, node: Node, names: Collection[str], budget: Budget) -> None:
        self._node = node
        self._names = {name.encode(): name for name in names}
        self._budget = budget

    def read(self, data: bytes, position: int) -> tuple[dict[str, Any], int]:
        document: dict[str, Any] = {}
        while True:
            count, position = _read_count(data, position)
            if not count:
                return document, position
            self._budget.spend(count)
            for _ in range(count):
                length, position = read_length(data, position)
                name = self._names.get(data[position : position + length])
                position += length
                if name is None:
                    position = self._node.skip(data, position)
                else:
                    document[name], position = self._node.read(data, position)

    def _skip_item(self, data: bytes, position: int) -> int:
        length, position = read_length(data, position)
        return self._node.skip(data, position + length)

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        return self._trace_unwanted(data, position, trace, path)


class Array(_Blocks):
    """An array: numbers, and records of numbers, become NumPy arrays.

    Parameters
    ----------
    node
        Reads its items.
    budget
        Limits how many objects there may be.
    """

    def __init__(self, node: Node, budget: Budget) -> None:
        self._node = node
        self._budget = budget
        self._layouts: list[ItemLayout] = []
        self._block: Callable[[bytes, int, int], tuple[Any, int]] = self._read_items
        self._dtype = None
        if isinstance(node, Number):
            self._dtype = np.dtype(node.dtype)
            self._block = self._read_numbers
        elif isinstance(node, Integer):
            self._block = partial(_read_integers, node.scale)
        elif isinstance(node, Object) and node.integers is not None:
            self._block = partial(_read_integer_records, node.integers)
        elif isinstance(node, Object | Later):
            self._block = self._read_records

    def read(self, data: bytes, position: int) -> tuple[Any, int]:
        begin = position
        head = data[position]
        if self._dtype is not None and 0 < head < 0x80 and not head & 1:
            # One block of up to 63 numbers, as most are.
            count = head >> 1
            end = position + 1 + count * self._dtype.itemsize
            if data[end] == 0:
                return np.frombuffer(data, self._dtype, count, position + 1), end + 1
        count, position = _read_count(data, position)
        if not count:
            return [], position
        total = 0
        parts = []
        try:
            while count:
                total += count
                if total > MAX_READINGS:
                    raise InvalidMessage(
                        ErrorCode.TOO_MANY_READINGS,
                        f"a list of {total} items, at most {MAX_READINGS}",
                    )
                part, position = self._block(data, position, count)
                parts.append(part)
                count, position = _read_count(data, position)
        except NoLayoutError:
            return self._read_objects(data, begin)
        if len(parts) == 1:
            return parts[0], position
        if isinstance(parts[0], list):
            return [item for part in parts for item in part], position
        if len({part.dtype for part in parts}) > 1:
            # A field may be null in all records of one block, and not in those of another.
            return self._read_objects(data, begin)
        return np.concatenate(parts), position

    def _read_numbers(self, data: bytes, position: int, count: int) -> tuple[Any, int]:
        numbers = np.frombuffer(data, self._dtype, count, position)
        return numbers, position + numbers.nbytes

    def _read_records(self, data: bytes, position: int, count: int) -> tuple[Any, int]:
        """Records of one layout, as one array."""
        for layout in self._layouts:
            if layout.count(data, position, count) == count:
                break
        else:
            layout = self._find_layout(data, position)
            if layout.count(data, position, count) != count:
                raise NoLayoutError
            self._layouts = [layout, *self._layouts[: MAX_LAYOUTS - 1]]
        return layout.read(data, position, count), position + count * layout.size

    def _find_layout(self, data: bytes, position: int) -> ItemLayout:
        """The layout of the first item."""
        trace = Trace()
        end = self._node.trace(data, position, trace, ())
        if end == position or not trace.segments or any(s.stride for s in trace.segments):
            raise NoLayoutError
        return ItemLayout(trace.segments, bytes(trace.mask), data[position:end])

    def _read_objects(self, data: bytes, position: int) -> tuple[list[Any], int]:
        items: list[Any] = []
        while True:
            count, position = _read_count(data, position)
            if not count:
                return items, position
            part, position = self._read_items(data, position, count)
            items += part

    def _read_items(self, data: bytes, position: int, count: int) -> tuple[list[Any], int]:
        self._budget.spend(count)
        read = self._node.read
        items = []
        for _ in range(count):
            item, position = read(data, position)
            items.append(item)
        return items, position

    def _skip_item(self, data: bytes, position: int) -> int:
        return self._node.skip(data, position)

    def trace(self, data: bytes, position: int, trace: Trace, path: tuple[str, ...] | None) -> int:
        if path is None:
            return self._trace_unwanted(data, position, trace, path)
        count, begin = read_long(data, position)
        if not 0 < count <= min(MAX_READINGS, len(data) - begin):
            raise NoLayoutError
        trace.mask += bytes([SAME]) * (begin - position)
        # All items have the layout of the first.
        item = Trace()
        size = self._node.trace(data, begin, item, path) - begin
        end = begin + count * size
        if any(segment.numbers is not None for segment in item.segments) or data[end] != 0:
            raise NoLayoutError
        first_item = ItemLayout((), bytes(item.mask), data[begin : begin + size])
        if size and first_item.count(data, begin, count) != count:
            raise NoLayoutError
        for one in item.segments:
            stride = None if isinstance(self._node, Number) else size
            first = len(trace.mask) + one.begin
            trace.segments.append(one._replace(begin=first, numbers=count, stride=stride))
        trace.mask += item.mask * count + bytes([SAME])
        return end + 1


def _read_integers(scale: Scale, data: bytes, position: int, count: int) -> tuple[Any, int]:
    folded, position = read_varints(data, position, count)
    return scale.apply(unfold(folded)), position


def _read_integer_records(
    fields: Sequence[tuple[str | None, Scale]], data: bytes, position: int, count: int
) -> tuple[Any, int]:
    """Records of integers, whose sizes differ: one long row of integers."""
    names = [(name, "<f8" if scale.over != 1 else "<i8") for name, scale in fields if name]
    if not names:
        raise NoLayoutError
    folded, position = read_varints(data, position, count * len(fields))
    items = np.empty(count, names)
    for column, (name, scale) in zip(unfold(folded).reshape(count, -1).T, fields, strict=True):
        if name:
            items[name] = scale.apply(column)
    return items, position


def _read_count(data: bytes, position: int) -> tuple[int, int]:
    """The number of items in the next block, and where they begin."""
    count, position = read_long(data, position)
    if count < 0:
        count = -count
        _, position = read_length(data, position)
    _check_count(data, position, count)
    return count, position


def _check_count(data: bytes, position: int, count: int) -> None:
    """Refuse a block of more items than bytes, which are items without any bytes or a lie."""
    if count > len(data) - position:
        raise ValueError(f"a block of {count} items in {len(data) - position} bytes")
