"""The text of a path into a message."""

from __future__ import annotations

import re

__all__ = ["EACH", "split_path"]

EACH = "*"
"""The part of a path that stands for each item of a list."""

MOST_PARTS = 16
_SEPARATOR = re.compile(r"(?<!\\)\.")
_INDEX = re.compile(r"-?[0-9]{1,6}")


def split_path(text: str) -> tuple[str | int, ...]:
    r"""The parts of a path: names, or places in a list, with dots between; ``\.`` is a dot in a name.

    One part may be ``*``, for each item of a list; what follows is looked for in the items.

    Raises
    ------
    ValueError
        The text can't be a path; the message says why.
    """
    parts = _SEPARATOR.split(text)
    if "" in parts:
        raise ValueError(f"{text!r} is no path: names with dots between them are expected")
    if len(parts) > MOST_PARTS:
        raise ValueError(f"{text[:80]!r} is no path: over {MOST_PARTS} parts")
    if parts.count(EACH) > 1 or parts[0] == EACH:
        raise ValueError(f"{text!r} is no path: one * at most, behind the name of a list")
    return tuple(int(p) if _INDEX.fullmatch(p) else p.replace(r"\.", ".") for p in parts)
