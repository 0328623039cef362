"""Answers: JSON, and pages of the package."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SECURITY_HEADERS", "STATIC", "answer", "read_page", "refuse"]

STATIC = files("stepstream.web") / "static"
SECURITY_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'self'; img-src 'self' data:; frame-ancestors 'self'",
    b"cache-control": b"no-store",
}
"""Of every answer; they tell browsers to be careful."""

_encode = msgspec.json.Encoder().encode


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with content."""
    return Response(_encode(content), status, dict(headers or {}), "application/json")


def refuse(
    status: int, error: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    """An answer that says what is wrong: a code for programs, a sentence for people."""
    return answer({"error": error, "detail": detail, **more}, status, headers)


def read_page(name: str) -> str:
    """A page of the package."""
    return (STATIC / name).read_text(encoding="utf-8")
