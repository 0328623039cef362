"""SenML packs (RFC 8428) in JSON: records with a name and a value each, and base fields."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from stepstream.inputs.errors import ErrorCode, InvalidMessage

if TYPE_CHECKING:
    from stepstream.inputs.parsers import Parser

__all__ = ["SenmlParser", "encode_pack"]

RELATIVE_S = 1 << 28
"""Smaller times count from the receiver's clock, which is no time of a reading."""
NUMBER = int | float


class SenmlParser:
    """Makes a list of objects of a pack: one for each device and time, with values by their names.

    An object has the base name as ``bn``, the resolved time as ``t``, seconds since the epoch, and
    each value under its record's ``n``. Records without a number are ignored.

    Parameters
    ----------
    parser
        Parses the JSON.
    """

    def __init__(self, parser: Parser) -> None:
        self._parse = parser.parse

    def parse(self, value: bytes) -> Any:
        """See `Parser.parse`."""
        records = self._parse(value)
        if not isinstance(records, list):
            raise InvalidMessage(ErrorCode.WRONG_TYPE, "expected a list of SenML records")
        base_name, base_time, base_value = "", 0.0, 0.0
        found: dict[tuple[str, float], dict[str, Any]] = {}
        for record in records:
            if not isinstance(record, dict):
                raise InvalidMessage(ErrorCode.WRONG_TYPE, "expected objects as SenML records")
            base_name = record.get("bn", base_name)
            if not isinstance(base_name, str):
                raise InvalidMessage(ErrorCode.WRONG_TYPE, "bn: expected text")
            base_time = _number(record, "bt", base_time)
            base_value = _number(record, "bv", base_value)
            name = record.get("n")
            if not isinstance(name, str) or "v" not in record:
                continue
            time_s = base_time + _number(record, "t", 0.0)
            item = found.setdefault((base_name, time_s), {})
            item[name] = _number(record, "v", 0.0) + base_value
        for (name, time_s), item in found.items():
            item["bn"] = name
            if time_s >= RELATIVE_S:
                item["t"] = time_s
        return list(found.values())


def encode_pack(document: dict[str, Any]) -> bytes:
    """A pack of one reading, or of columns, with ``bn`` and ``t``; the inverse of `SenmlParser`."""
    columns = {
        name: value if isinstance(value, list) else [value]
        for name, value in document.items()
        if name != "bn"
    }
    times = columns.pop("t")
    records = [
        {"n": name, "t": time_s - times[0], "v": values[row]}
        for row, time_s in enumerate(times)
        for name, values in columns.items()
    ]
    base = {"bt": times[0], **({"bn": document["bn"]} if "bn" in document else {})}
    return json.dumps([{**base, **records[0]}, *records[1:]]).encode()


def _number(record: dict[str, Any], name: str, default: float) -> float:
    value = record.get(name, default)
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        raise InvalidMessage(ErrorCode.WRONG_TYPE, f"{name}: expected a number")
    try:
        return float(value)
    except OverflowError:
        raise InvalidMessage(ErrorCode.OUT_OF_RANGE, f"{name}: over 64 bits") from None
