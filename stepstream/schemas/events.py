"""JSON Schema of events."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

__all__ = ["event_schema"]


def event_schema() -> dict[str, Any]:
    """The JSON Schema of the events' values."""
    text = resources.files("stepstream").joinpath("schemas/event.schema.json").read_text()
    schema: dict[str, Any] = json.loads(text)
    return schema
