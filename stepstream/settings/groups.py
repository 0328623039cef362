"""What the groups of settings have in common."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, SecretStr

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SettingsGroup", "in_unit", "read_secret_file", "read_time", "split_commas"]


class SettingsGroup(BaseModel):
    """A group of settings: frozen, and a name that isn't among them is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def split_commas(value: object) -> object:
    """The parts of a text between commas; any other value as it is."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def read_time(value: object, *words: str) -> datetime:
    """A time with its zone, ISO 8601.

    Parameters
    ----------
    value
        The time, or its text.
    words
        What else a user may write; the error names it.

    Raises
    ------
    ValueError
        It is something else, or lacks the zone.
    """
    try:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        others = "".join(f"{word}, " for word in words)
        raise ValueError(
            f"expected {others}{'or ' if others else ''}a time with its zone, "
            "like 2030-01-31T12:00:00Z"
        )
    return at


def in_unit(unit: str) -> dict[str, Any]:
    """What `Field` is given as `json_schema_extra`, for a number with a unit."""
    return {"unit": unit}


def read_secret_file(path: Path, setting: str) -> SecretStr:
    """Read a secret from a file, without the line end that editors add.

    Raises
    ------
    ValueError
        The file can't be read; the message names the setting, never the content.
    """
    try:
        return SecretStr(path.read_text(encoding="utf-8").rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{setting}: can't read {path}: {reason}") from None
