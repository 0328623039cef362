"""Tables that consumers answer with and their parent puts together: devices, dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Row = dict[str, Any]

__all__ = [
    "LETTERS_OF_CODE",
    "MAX_ROWS",
    "ORDERS",
    "merge_counts",
    "newest_letters",
    "sort_rows",
]

MAX_ROWS = 50
"""In one answer about devices."""

LETTERS_OF_CODE = 3
"""Samples of dead letters with one reason."""

ORDERS: dict[str, Callable[[Row], tuple[Any, ...]]] = {
    "busiest": lambda row: (-row["rate"], row["device_id"]),
    "quiet": lambda row: (-row["quiet_s"], row["device_id"]),
    "delayed": lambda row: (-row["delay_s"], row["device_id"]),
    "units": lambda row: (row["doubt"], row["device_id"]),
}
"""What a table of devices may be sorted by."""


def sort_rows(order: str, rows: Iterable[Row]) -> list[Row]:
    """As many rows as an answer has."""
    return sorted(rows, key=ORDERS[order])[:MAX_ROWS]


def merge_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    """Counts of several consumers added up."""
    merged: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            merged[name] = merged.get(name, 0) + number
    return merged


def newest_letters(letters: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last dead letters of each reason, the newest first."""
    kept: dict[str, list[dict[str, Any]]] = {}
    for letter in sorted(letters, key=lambda one: (one["seen"], one["offset"]), reverse=True):
        of_code = kept.setdefault(letter["code"], [])
        if len(of_code) < LETTERS_OF_CODE:
            of_code.append(letter)
    return [letter for of_code in kept.values() for letter in of_code]
