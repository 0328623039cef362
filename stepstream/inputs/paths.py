"""Paths: where in a message a value is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from stepstream.settings.paths import EACH, split_path

__all__ = ["MISSING", "Path"]


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a message has at a path that leads nowhere, or to a null."""


@dataclass(frozen=True, slots=True)
class Path:
    """Where in a message a value is: ``acc.x``, ``data.0.values.2``.

    Attributes
    ----------
    parts
        From the outside in: the name of a field, or a place in a list, from 0, or from -1 at the
        end, or ``*`` for each item of a list. A number is also the name of a field if there is an
        object in that place.
    """

    parts: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str) -> Path:
        r"""Read a path from its text: parts with dots between them; ``\.`` is a dot in a name.

        Raises
        ------
        ValueError
            It can't be a path; the message says why.
        """
        return cls(split_path(text))

    def __str__(self) -> str:
        return ".".join(str(part).replace(".", r"\.") for part in self.parts)

    def __add__(self, other: Path) -> Path:
        return Path(self.parts + other.parts)

    @property
    def is_of_names(self) -> bool:
        """Whether it leads through objects only."""
        return not self.is_of_items and all(isinstance(part, str) for part in self.parts)

    @property
    def is_of_items(self) -> bool:
        """Whether it leads to a value in each item of a list."""
        return EACH in self.parts

    def is_within(self, other: Path) -> bool:
        """Whether the value is that of the other path or a part of it."""
        return self.parts[: len(other.parts)] == other.parts

    def explain_missing(self, document: Any) -> str:
        """Why there is nothing: text, perhaps with JSON or base64 in it, has no fields."""
        for end in range(1, len(self.parts)):
            begin = Path(self.parts[:end])
            if isinstance(begin.find(document), str | bytes):
                return f"{self} is missing: {begin} is text"
        return f"{self} is missing"

    def find(self, document: Any) -> Any:
        """The value in a document, or `MISSING`; a null is missing too.

        It is a list of values if the path leads to each item of a list.
        """
        for place, part in enumerate(self.parts):
            if part == EACH:
                return _find_in_each(document, Path(self.parts[place + 1 :]))
            if isinstance(document, dict):
                found = document.get(part, MISSING)
                if found is MISSING and isinstance(part, int):
                    found = document.get(str(part), MISSING)
                document = found
            elif isinstance(part, int):
                if not isinstance(document, list | tuple | np.ndarray):
                    return MISSING
                if not -len(document) <= part < len(document):
                    return MISSING
                document = document[part]
            elif isinstance(document, np.ndarray | np.void):
                if part not in (document.dtype.names or ()):
                    return MISSING
                document = document[part]
            else:
                return MISSING
        return MISSING if document is None else document


def _find_in_each(items: Any, path: Path) -> Any:
    if isinstance(items, np.ndarray) and items.dtype.names and path.is_of_names:
        return path.find(items)  # a column of the array
    if not isinstance(items, list | tuple | np.ndarray):
        return MISSING
    return [path.find(item) for item in items]
