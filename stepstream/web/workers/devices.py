"""Devices of all workers: the worker that owns one answers for it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import msgspec
from starlette.responses import Response

from stepstream.web.answers import answer, refuse
from stepstream.web.page import ALIVE_INTERVAL_S, make_event
from stepstream.web.workers.clients import ask_all

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from starlette.requests import Request

    from stepstream.web.workers.clients import Answer, Client

__all__ = ["WorkerDevices", "pass_on", "unavailable"]

MAX_LISTED = 100
CLOSE_CHECK_S = 0.25
QUIET = b"event: alive\n"
MAX_QUIET = 2
"""Events in a row that only say that a stream is there; the first of all may be one."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class WorkerDevices:
    """Answers about the devices of all workers.

    Parameters
    ----------
    clients
        The workers.
    """

    def __init__(self, clients: Sequence[Client]) -> None:
        self._clients = clients

    async def show(self, request: Request) -> Response:
        """What the worker that owns a device says of it."""
        found = await self._find(request.path_params["device_id"], dict(request.query_params))
        return unavailable() if found is None else pass_on(found)

    async def list(self, request: Request) -> Response:
        """Devices with a window in any worker, some of them."""
        answers = await ask_all(self._clients, "/v1/devices", params=dict(request.query_params))
        listed = [_decode(one.body)["devices"] for one in answers if one.status == 200]
        if not listed:
            return unavailable()
        devices = [device for devices in listed for device in devices]
        return answer({"devices": devices[:MAX_LISTED]})

    async def follow(
        self, device_id: str, topic: str | None, is_closing: Callable[[], bool]
    ) -> AsyncGenerator[bytes, None]:
        """See `stepstream.web.page.Signals`; the stream comes from whichever worker owns it."""
        while not is_closing():
            found = await self._find(device_id, {} if topic is None else {"topic": topic})
            if found is None or found.status != 200:
                yield make_event("alive", {})
                await _pause(is_closing)
                continue
            # The worker may have the id in several topics.
            topic = _decode(found.body)["topic"]
            followed = {"device": device_id, "topic": topic}
            async with aclosing(_stream(self._clients[found.worker], followed)) as events:
                async for event in events:
                    yield event
                    if is_closing():
                        break
            await asyncio.sleep(CLOSE_CHECK_S)

    async def _find(self, device_id: str, params: dict[str, str]) -> Answer | None:
        """The answer that says most: of the owner, or else why there is none."""
        path = f"/v1/devices/{quote(device_id, safe='', errors='replace')}"
        answers = await ask_all(self._clients, path, params=params)
        return min(answers, key=_rank, default=None)


async def _stream(owner: Client, followed: dict[str, str]) -> AsyncGenerator[bytes, None]:
    """Events about a device while it isn't quiet: then it may have another owner."""
    quiet = 0
    # A stream ends with its worker; the device has another owner then.
    with suppress(httpx.HTTPError):
        async with owner.events("/performance/signal", followed) as events:
            async for event in events:
                yield event
                quiet = quiet + 1 if event.startswith(QUIET) else 0
                if quiet > MAX_QUIET:
                    return


def _rank(one: Answer) -> int:
    """How little an answer says: a device that belongs elsewhere is what most workers say."""
    is_elsewhere = one.status == 404 and b'"not-owned"' in one.body
    return 2 if is_elsewhere else int(one.status != 200)


async def _pause(is_closing: Callable[[], bool]) -> None:
    for _ in range(int(ALIVE_INTERVAL_S / CLOSE_CHECK_S)):
        if is_closing():
            return
        await asyncio.sleep(CLOSE_CHECK_S)


def pass_on(one: Answer) -> Response:
    """A worker's answer as one's own."""
    kept = {k: v for k, v in one.headers.items() if k in {"content-type", "retry-after"}}
    return Response(one.body, one.status, kept)


def unavailable() -> Response:
    """No worker answers."""
    return refuse(503, "unavailable", "no worker answers", {"retry-after": "1"})
