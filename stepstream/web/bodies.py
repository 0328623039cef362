"""Bodies of requests, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["TooLarge", "read_body"]


class TooLarge(Exception):  # noqa: N818 - a finding about a request, not an error of ours
    """A body is larger than it may be."""


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Parameters
    ----------
    request
        The request.
    limit
        Most bytes that are accepted.

    Raises
    ------
    TooLarge
        There are more.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise TooLarge(f"the body has over {limit} bytes, which is the limit")
    return bytes(body)
