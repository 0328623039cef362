"""The text of a path into a message."""

from __future__ import annotations

import re

__all__ = ["split_path"]

MOST_PARTS = 16
_SEPARATOR = re.compile(r"(?<!\\)\.")
_INDEX = re.compile(r"-?[0-9]{1,6}")


def split_path(text: str) -> tuple[str | int, ...]:
    r"""The parts of a path: names, or places in a list, with dots between; ``\.`` is a dot in a name.

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
    return tuple(int(p) if _INDEX.fullmatch(p) else p.replace(r"\.", ".") for p in parts)
