"""Variable-length integers: seven bits a byte, the lowest first, as Avro and Protobuf have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "MAX_VARINT_BYTES",
    "join_groups",
    "read_varint",
    "read_varints",
    "unfold",
    "write_varint",
]

MAX_VARINT_BYTES = 10
"""Of a 64-bit integer."""

_KEPT = np.array([(1 << 8 * length) - 1 for length in range(9)], np.uint64)
"""The bits of the first bytes of a word, by their number."""


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Read one integer without a sign.

    Returns
    -------
    integer, position
        The integer, and where the next byte is.

    Raises
    ------
    IndexError
        The data end within it.
    ValueError
        It has more than ten bytes.
    """
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    value = byte & 0x7F
    for shift in range(7, 7 * MAX_VARINT_BYTES, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("an integer has more than ten bytes")


def write_varint(number: int) -> bytes:
    """Write one integer without a sign."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def read_varints(data: bytes, position: int, count: int) -> tuple[NDArray[np.uint64], int]:
    """Read integers that follow each other, without a Python object for each.

    Parameters
    ----------
    data
        The bytes.
    position
        Where the first begins.
    count
        How many there are.

    Returns
    -------
    integers : (count,) uint64
        Their lowest 64 bits.
    position
        Where the next byte is.

    Raises
    ------
    ValueError
        The data end before, or one has more than ten bytes.
    """
    if not count:
        return np.empty(0, np.uint64), position
    room = len(data) - position
    if not count <= room:
        raise ValueError("the data end within an array of integers")
    window = np.frombuffer(data, np.uint8, min(room, count * MAX_VARINT_BYTES), position)
    ends = np.flatnonzero(window < 0x80)[:count]
    if len(ends) < count:
        raise ValueError("an array of integers ends early, or one has more than ten bytes")
    end = int(ends[-1]) + 1
    if end == count:
        return window[:end].astype(np.uint64), position + end
    padded = bytes(window[:end]) + bytes(MAX_VARINT_BYTES)
    size = end // count
    if size <= 8 and np.array_equal(ends, np.arange(size - 1, end, size)):
        words = np.ndarray((count,), "<u8", padded, strides=(size,))
        return join_groups(words & _KEPT[size]), position + end
    lengths = np.diff(ends, prepend=-1)
    begins = ends + 1 - lengths
    longest = int(lengths.max())
    if longest > MAX_VARINT_BYTES:
        raise ValueError("an integer has more than ten bytes")
    words = np.ndarray((end,), "<u8", padded, strides=(1,))
    values = join_groups(words[begins] & _KEPT[np.minimum(lengths, 8)])
    if longest > 8:
        tails = np.ndarray((end,), "<u2", padded, offset=8, strides=(1,))[begins].astype(np.uint64)
        # A byte of the next integer counts for nothing.
        values |= np.where(lengths > 8, (tails & np.uint64(0x7F)) << np.uint64(56), np.uint64(0))
        values |= np.where(lengths > 9, (tails >> np.uint64(8)) << np.uint64(63), np.uint64(0))
    return values, position + end


def join_groups(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The integers of up to 56 bits whose bytes are those of words, with zeros behind.

    Parameters
    ----------
    words : uint64
        Eight bytes each, in little-endian order; those behind an integer's last are 0.

    Notes
    -----
    Groups of seven bits are joined to 14, these to 28, and these to 56.
    """
    pairs = _join(words, 0x007F007F007F007F, 0x3F803F803F803F80, 1)
    fours = _join(pairs, 0x00003FFF00003FFF, 0x0FFFC0000FFFC000, 2)
    return _join(fours, 0x0FFFFFFF, 0x00FFFFFFF0000000, 4)


def _join(groups: NDArray[np.uint64], low: int, high: int, gap: int) -> NDArray[np.uint64]:
    return (groups & np.uint64(low)) | ((groups >> np.uint64(gap)) & np.uint64(high))


def unfold(folded: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Integers with a sign, from the zigzag code: 0, -1, 1, -2 and so on."""
    return (folded >> np.uint64(1)).view(np.int64) ^ -(folded & np.uint64(1)).view(np.int64)
