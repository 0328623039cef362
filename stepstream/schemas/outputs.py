"""Schemas of what is published."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepstream.settings import OutputKind

__all__ = ["output_schema", "output_schema_text"]


def output_schema(kind: OutputKind) -> dict[str, Any]:
    """The JSON Schema of the values of a kind of output."""
    schema: dict[str, Any] = json.loads(output_schema_text(kind, "schema.json"))
    return schema


def output_schema_text(kind: OutputKind, suffix: str) -> str:
    """A schema of the values of a kind of output: ``schema.json``, ``avsc`` or ``proto``."""
    return resources.files("stepstream").joinpath(f"schemas/{kind}.{suffix}").read_text()
