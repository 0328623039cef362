"""Schemas of messages: what can be wrong with them."""

from __future__ import annotations

__all__ = ["SchemaError"]


class SchemaError(Exception):
    """A schema can't be used; the text says why."""
