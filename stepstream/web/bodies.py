"""Bodies of requests, within bounds; and work that ends when nobody waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from starlette.requests import Request

__all__ = ["Bodies", "TooBusy", "TooLarge", "WrongType", "check_type", "while_connected"]

MAX_HELD_BYTES = 32 << 20
DRAINED = 4
"""Times the limit: as much of a body that is too large is read, and dropped."""
FORM = "application/x-www-form-urlencoded"
T = TypeVar("T")


class TooLarge(Exception):  # noqa: N818 - a finding about a request, not an error of ours
    """A body is larger than it may be."""


class TooBusy(Exception):  # noqa: N818
    """The bodies that are coming in have too many bytes together."""


class WrongType(Exception):  # noqa: N818
    """A body is compressed, or of a type that any page may send to anywhere."""


def check_type(request: Request) -> None:
    """Accept readings only as what they are.

    A browser asks the server before a page of another origin may send ``application/...``. It
    doesn't ask for forms and plain text, so they are refused.

    Raises
    ------
    WrongType
        The body is compressed, or its type is missing or not ``application/...``.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding != "identity":
        raise WrongType(f"content-encoding is {coding!r:.40}; send the body without compression")
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not given.startswith("application/") or given == FORM:
        raise WrongType(
            f"content-type is {given!r:.60}; application/json is expected, or application/... for "
            "another format"
        )


class Bodies:
    """Reads bodies; those that are coming in are bounded together, too.

    Parameters
    ----------
    limit
        Most bytes of one.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    async def read(self, request: Request) -> bytes:
        """The body of a request.

        Raises
        ------
        TooLarge
            It has too many bytes.
        TooBusy
            All that are coming in have too many.
        """
        body = bytearray()
        drained = 0
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > DRAINED * self._limit:
            raise self._too_large()
        try:
            async for part in request.stream():
                if len(body) + drained + len(part) > self._limit:
                    # A client that is still sending wouldn't see the refusal, so the rest is read.
                    drained += len(body) + len(part)
                    self._held -= len(body)
                    body.clear()
                    if drained > DRAINED * self._limit:
                        break
                    continue
                body += part
                self._held += len(part)
                if self._held > MAX_HELD_BYTES:
                    raise TooBusy("too many bodies are coming in")
        finally:
            self._held -= len(body)
        if drained:
            raise self._too_large()
        return bytes(body)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body has over {self._limit} bytes, which is the limit")


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do work for a request whose body was read; cancel it when the client goes.

    Raises
    ------
    ClientDisconnect
        The client went.
    """
    worker = asyncio.current_task()
    is_gone = is_over = False

    def interrupt(_: object) -> None:
        nonlocal is_gone
        if worker is not None and not is_over:
            is_gone = True
            worker.cancel()

    leaving = asyncio.create_task(_leave(request))
    leaving.add_done_callback(interrupt)
    try:
        return await work
    except asyncio.CancelledError:
        if is_gone and worker is not None and not worker.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        is_over = True
        leaving.cancel()


async def _leave(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
