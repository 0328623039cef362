"""The values at several paths of many objects at once."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from stepstream.inputs.paths import Path

    Objects = Sequence[Any] | NDArray[Any]
    """Objects, lists, or both as rows of an array: a structured one, or one of two dimensions."""

__all__ = ["PathTree"]

_NOT_THERE = (LookupError, TypeError, ValueError)
_LISTS = {list, tuple, np.ndarray}


class PathTree:
    """Paths by what they have in common, so that each part is looked up once in each object.

    Parameters
    ----------
    paths
        A path for each name; the parts from the objects on.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._root = _Node((name, path.parts) for name, path in paths.items())

    def take(self, objects: Objects) -> dict[str, Sequence[Any] | NDArray[Any]]:
        """What the objects have at each path, by name; `MISSING` or None where nothing is.

        Calls of C functions do it in the usual case, in which each object has all of it.
        """
        found: dict[str, Sequence[Any] | NDArray[Any]] = {}
        try:
            self._root.take(objects, found)
        except _NOT_THERE:
            return {name: [path.find(one) for one in objects] for name, path in self._paths.items()}
        return found


class _Node:
    """What has one beginning: names that end here, and longer paths by their next part."""

    def __init__(self, paths: Iterable[tuple[str, tuple[str | int, ...]]]) -> None:
        self.names = []
        by_part: dict[str | int, list[tuple[str, tuple[str | int, ...]]]] = {}
        for name, parts in paths:
            if parts:
                by_part.setdefault(parts[0], []).append((name, parts[1:]))
            else:
                self.names.append(name)
        self._children = {part: _Node(longer) for part, longer in by_part.items()}
        self._has_places = any(isinstance(part, int) for part in by_part)
        self._get = itemgetter(*by_part) if by_part else None

    def take(self, objects: Objects, found: dict[str, Sequence[Any] | NDArray[Any]]) -> None:
        for name in self.names:
            found[name] = objects
        if self._get is None or not len(objects):
            for child in self._children.values():
                child.take(objects, found)
            return
        for column, child in zip(
            self._columns(objects, self._get), self._children.values(), strict=True
        ):
            child.take(column, found)

    def _columns(self, objects: Objects, get: itemgetter[Any]) -> Iterable[Objects]:
        if isinstance(objects, np.ndarray):
            # NumPy takes a number for a row, which is not what is asked for.
            return [
                objects[:, part] if isinstance(part, int) else objects[part]
                for part in self._children
            ]
        if self._has_places:
            kinds = set(map(type, objects))
            if not (kinds <= _LISTS or kinds == {dict}):
                raise TypeError("text and bytes have places too, but they are no lists")
        # A list, since CPython 3.11 loses memory if an iterator raises in zip(*..., strict=True).
        values = list(map(get, objects))
        return zip(*values, strict=True) if len(self._children) > 1 else [values]
