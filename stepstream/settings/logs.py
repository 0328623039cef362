"""The log."""

from __future__ import annotations

from typing import Literal

from stepstream.settings.groups import SettingsGroup

__all__ = ["LoggingSettings"]


class LoggingSettings(SettingsGroup):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""
    format: Literal["text", "json"] = "text"
    """`text`: lines for people; `json`: one JSON object in each line."""
