"""JSON by the compiled decoder: it reads what is usual, and leaves all other messages to Python.

So it has to know neither all of JSON nor what is wrong with a message. Of what it does read, it
gives the same bits as Python's decoders, which tests hold it to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stepstream.inputs.columns import FIELDS, MAX_MESSAGE_BYTES, MAX_READINGS, Columns
from stepstream.native import find_native

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stepstream.inputs.layout import Layout
    from stepstream.inputs.paths import Path

__all__ = ["NativeJson", "NativeReadings"]

_ID = len(FIELDS)
_LIMITS = (MAX_MESSAGE_BYTES, MAX_READINGS)

Tree = dict[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class NativeReadings:
    """What was decoded of the messages of a poll.

    Attributes
    ----------
    count
        How many messages they were.
    columns
        Their readings, in the messages' units; NaN stands for what a message lacks.
    device_ids : (n,)
        UTF-8, of each of all messages, if the layout has a path of it; None for the others.
    others
        Rows of the messages that are for Python.
    """

    count: int
    columns: Columns
    device_ids: list[bytes | None]
    others: list[int]


class NativeJson:
    """Decodes messages of a layout.

    Parameters
    ----------
    tree
        What is wanted: dicts by names or places, a list around the tree of a list's elements, and
        the number of a column, or `_ID`.
    may_be_list, needs_time, needs_id
        Whether a message may be a list of what the tree says; whether it has to have a time, and a
        device id, which may be an integer then.

    Raises
    ------
    ValueError
        It can't decode what the tree says.
    """

    def __init__(
        self, tree: Tree, *, may_be_list: bool = False, needs_time: bool = False, needs_id: bool
    ) -> None:
        made = find_native().Decoder(tree, may_be_list, needs_time, needs_id, _LIMITS)
        self._decode = made.decode

    @classmethod
    def plain(cls) -> NativeJson | None:
        """The decoder of the plain form; None if it isn't installed."""
        if find_native() is None:
            return None
        return cls({"device_id": _ID, **_numbered(FIELDS)}, needs_id=False)

    @classmethod
    def of(cls, layout: Layout) -> NativeJson | None:
        """The decoder of a layout; None if it isn't installed, or for Python only."""
        if (
            find_native() is None
            or not layout.fields.keys() <= set(FIELDS)
            or layout.sensor is not None
            or layout.time_is_text
            or layout.numeric_strings
            or layout.rate_hz is not None
            or any(path.is_of_items for path in layout.fields.values())
        ):
            return None
        source = layout.device_id
        tree: Tree = {}
        try:
            for name, path in layout.fields.items():
                _put(tree, path, FIELDS.index(name))
            if source is not None and type(source.parts[0]) is type(next(iter(tree))):
                _put(tree, source, _ID)
            if layout.readings is not None:
                tree = _put({}, layout.readings, [tree])
                if source is not None:
                    _put(tree, source, _ID)
            return cls(
                tree,
                may_be_list=layout.readings is None,
                needs_time="timestamp" in layout.required,
                needs_id=source is not None,
            )
        except ValueError:
            return None

    def decode(
        self, values: Sequence[bytes | None], device_ids: Sequence[str] | None = None
    ) -> NativeReadings:
        """Decode messages.

        Parameters
        ----------
        values : (n,)
            The messages.
        device_ids : (n,)
            The device of each, if it is known: a message that names another is not read.
        """
        ids = None if device_ids is None else list(device_ids)
        numbers, found, others = self._decode(list(values), ids)
        columns = np.frombuffer(numbers).reshape(len(FIELDS) + 1, -1)
        readings = Columns(columns[-1].astype(np.intp), columns[:-1], None)
        return NativeReadings(len(values), readings, found, others)


def _numbered(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _put(tree: Tree, path: Path, leaf: Any) -> Tree:
    """Put something at a path of a tree."""
    *outer, last = path.parts
    node = tree
    for part in outer:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ValueError("something else is wanted there")  # noqa: TRY004 - of the layout
    if node.setdefault(last, leaf) is not leaf:
        raise ValueError("two things are wanted there")
    return tree
