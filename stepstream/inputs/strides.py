"""Lists whose items have one layout of bytes: NumPy reads them without objects."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stepstream.inputs.varints import join_groups, unfold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FIXED", "PADDING", "SAME", "VARINT", "Coding", "ItemLayout", "Scale", "Segment"]

FIXED = 0x00
"""Bits of a byte that all items share: none, in a number of a fixed size."""
VARINT = 0x80
"""The bit that says whether a variable-length integer goes on."""
SAME = 0xFF
"""All bits: a count, a length, a tag, the number of a union's branch."""


PADDING = bytes(10)
"""Behind the last item: an integer is read as a word of 8 bytes and two more."""


class Coding(Enum):
    """How bytes are a number."""

    FIXED = auto()
    """As NumPy has it; `Segment.dtype` says which."""
    FOLDED = auto()
    """A variable-length integer in zigzag code."""
    SIGNED = auto()
    """A variable-length integer in two's complement."""
    UNSIGNED = auto()
    """A variable-length integer without a sign."""


class Scale(NamedTuple):
    """What a number is multiplied and divided by; one of both is 1."""

    times: int = 1
    over: int = 1

    def apply(self, number: Any) -> Any:
        """The scaled number, or array of numbers; a float as soon as it is scaled.

        One number gives exactly what it gives within an array.
        """
        if self.times == self.over:
            return number
        number = number.astype(np.float64) if isinstance(number, np.ndarray) else float(number)
        return number / self.over if self.over != 1 else number * self.times


class Segment(NamedTuple):
    """Bytes of an item that are a value.

    Attributes
    ----------
    path
        Names of the field, and of the records that it is in, from the item on.
    coding
        How they are a number.
    begin, length
        Where they are in the item.
    dtype
        Of a number of a fixed size.
    numbers
        How many numbers they are, if they are an array.
    stride
        Bytes from one number of an array to the next; None if they are next to each other and of
        a fixed size.
    scale
        Applied to a variable-length integer.
    adds
        Whether the number is added to that of another segment with the same path.
    """

    path: tuple[str, ...]
    coding: Coding
    begin: int
    length: int
    dtype: str = "<i8"
    numbers: int | None = None
    scale: Scale = Scale()
    adds: bool = False
    stride: int | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether the numbers become floats."""
        return self.scale.times != self.scale.over


class ItemLayout:
    """The layout of bytes that the items of a list share.

    Parameters
    ----------
    segments
        The values that are wanted.
    mask
        For each byte of an item, the bits that are the same in all items: `FIXED`, `VARINT` or
        `SAME`.
    example
        The bytes of an item.
    """

    def __init__(self, segments: Sequence[Segment], mask: bytes, example: bytes) -> None:
        self.size = len(mask)
        """Bytes of an item."""
        self._is_free = not any(mask)
        self._whole_mask, self._whole_example = mask, example
        whole = np.frombuffer(mask, np.uint8)
        self._checked = np.flatnonzero(whole)
        self._mask = whole[self._checked]
        self._example = np.frombuffer(example, np.uint8)[self._checked] & self._mask
        self.segments = segments
        """The values that are wanted."""
        self._fixed = [s for s in segments if s.coding is Coding.FIXED]
        self._varints = [s for s in segments if s.coding is not Coding.FIXED]
        self._view = _record([_Field(s.path, s.dtype, s.begin, s.numbers) for s in self._fixed])
        if self._view is not None:
            self._view = _sized(self._view, self.size)
        self._dtype = _record(
            [_Field(s.path, "<f8" if s.is_scaled else s.dtype, None, s.numbers) for s in segments]
        )

    @property
    def is_empty(self) -> bool:
        """Whether no value of an item is wanted."""
        return self._dtype is None

    def behind(self, head: bytes) -> ItemLayout:
        """The layout of the same items with some bytes before each, the same before all."""
        moved = [one._replace(begin=one.begin + len(head)) for one in self.segments]
        mask = bytes([SAME]) * len(head) + self._whole_mask
        return ItemLayout(moved, mask, head + self._whole_example)

    def count(self, data: bytes, position: int, most: int) -> int:
        """How many items with this layout follow each other, up to ``most``."""
        most = min(most, (len(data) - position) // self.size)
        if self._is_free or most <= 0:
            return max(most, 0)
        same = self.find(data, position, most)
        return most if same.all() else int(same.argmin())

    def find(self, data: bytes, position: int, count: int) -> NDArray[np.bool_]:
        """Which of some items of the right size have this layout."""
        items = np.frombuffer(data, np.uint8, count * self.size, position)
        checked = items.reshape(count, self.size)[:, self._checked]
        same: NDArray[np.bool_] = ((checked & self._mask) == self._example).all(axis=1)
        return same

    def numbers(self, segment: Segment, data: bytes, count: int) -> NDArray[Any]:
        """The numbers that all items have in one segment.

        Parameters
        ----------
        segment
            One of the layout's.
        data
            The items, with at least 10 bytes behind them.
        count
            How many items there are.

        Returns
        -------
        (count,) or (count, segment.numbers)
        """
        shape: tuple[int, ...] = (count,)
        strides: tuple[int, ...] = (self.size,)
        width = np.dtype(segment.dtype).itemsize if segment.coding is Coding.FIXED else 0
        if segment.numbers is not None:
            shape, strides = (count, segment.numbers), (self.size, segment.stride or width)
        if segment.coding is Coding.FIXED:
            return np.ndarray(shape, segment.dtype, data, segment.begin, strides)
        words = np.ndarray(shape, "<u8", data, segment.begin, strides)
        values = join_groups(words & np.uint64((1 << 8 * min(segment.length, 8)) - 1))
        for place in range(8, segment.length):
            byte = np.ndarray(shape, np.uint8, data, segment.begin + place, strides)
            values |= (byte & 0x7F).astype(np.uint64) << np.uint64(7 * place)
        scaled: NDArray[Any] = segment.scale.apply(_signed(values, segment))
        return scaled

    def read(self, data: bytes, position: int, count: int) -> NDArray[np.void]:
        """The values of items.

        Returns
        -------
        (count,) structured
            A field for each value; records of records are nested.
        """
        view = None
        if self._view is not None:
            view = np.frombuffer(data, self._view, count, position)
            if not self._varints:
                return view
        items: NDArray[np.void] = np.empty(count, self._dtype)
        for segment in self._fixed:
            _at(items, segment.path)[...] = _at(view, segment.path)
        padded = data[position : position + count * self.size] + PADDING
        for segment in self._varints:
            numbers = self.numbers(segment, padded, count)
            if segment.adds:
                _at(items, segment.path)[...] += numbers
            else:
                _at(items, segment.path)[...] = numbers
        return items


def _signed(values: NDArray[np.uint64], segment: Segment) -> NDArray[np.int64] | NDArray[np.uint64]:
    if segment.dtype in {"<i4", "<u4"}:
        # Protobuf takes the lowest bits of an integer that is too long.
        values &= np.uint64(0xFFFFFFFF)
    if segment.coding is Coding.FOLDED:
        return unfold(values)
    return values.view(np.int64) if segment.coding is Coding.SIGNED else values


def _at(items: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        items = items[name]
    return items


@dataclass(frozen=True)
class _Field:
    path: tuple[str, ...]
    dtype: str
    begin: int | None
    numbers: int | None


def _record(fields: Sequence[_Field], depth: int = 0) -> np.dtype[Any] | None:
    """A structured type, whose fields lie where they lie in an item, or behind each other."""
    if not fields:
        return None
    parts: dict[str, list[_Field]] = {}
    for field in fields:
        parts.setdefault(field.path[depth], []).append(field)
    formats: list[Any] = []
    begins: list[int | None] = []
    for same in parts.values():
        first = same[0]
        if len(first.path) > depth + 1:
            formats.append(_record(same, depth + 1))
            begins.append(0)  # the begins of its fields are those in the item
        else:
            shape = () if first.numbers is None else (first.numbers,)
            formats.append(np.dtype((first.dtype, shape)))
            begins.append(first.begin)
    layout: Any = {"names": list(parts), "formats": formats}
    if fields[0].begin is not None:
        layout["offsets"] = begins
    dtype: np.dtype[Any] = np.dtype(layout)
    return dtype


def _sized(dtype: np.dtype[Any], size: int) -> np.dtype[Any]:
    """The same type for items of a size."""
    fields: Any = dtype.fields or {}
    layout: Any = {
        "names": list(fields),
        "formats": [field[0] for field in fields.values()],
        "offsets": [field[1] for field in fields.values()],
        "itemsize": size,
    }
    sized: np.dtype[Any] = np.dtype(layout)
    return sized
