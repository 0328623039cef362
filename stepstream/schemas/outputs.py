"""JSON Schema of what is published."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepstream.settings import OutputKind

__all__ = ["output_schema"]


def output_schema(kind: OutputKind) -> dict[str, Any]:
    """The JSON Schema of the values of a kind of output."""
    file = resources.files("stepstream").joinpath(f"schemas/{kind}.schema.json")
    schema: dict[str, Any] = json.loads(file.read_text())
    return schema
