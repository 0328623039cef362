"""Requests to workers, over their unix sockets."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Answer", "Client", "ask_all"]

TIMEOUT_S = 4.0
"""Longer than a worker waits for its loop."""
CONNECT_TIMEOUT_S = 1.0
STREAM_TIMEOUT_S = 10.0
"""A stream says every two seconds at least that it is there."""
MAX_ANSWER_BYTES = 32 << 20
MAX_CONNECTIONS = 50
"""To one worker, which takes twice as many."""
KEPT_CONNECTIONS = 4
KEEP_S = 5.0
MAX_EVENT_BYTES = 4 << 20


class Answer(NamedTuple):
    """What a worker answered."""

    worker: int
    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Asks one worker.

    Parameters
    ----------
    worker
        Its number.
    path
        The socket it listens on while it runs.
    """

    def __init__(self, worker: int, path: Path) -> None:
        self.worker = worker
        limits = httpx.Limits(
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=KEPT_CONNECTIONS,
            keepalive_expiry=KEEP_S,
        )
        transport = httpx.AsyncHTTPTransport(
            uds=str(path),
            limits=limits,
            verify=False,
        )
        self._http = httpx.AsyncClient(
            transport=transport,
            base_url="http://worker",
            headers={"accept-encoding": "identity"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=False,
        )

    async def ask(
        self, path: str, *, body: bytes | None = None, timeout_s: float = TIMEOUT_S, **more: Any
    ) -> Answer | None:
        """What the worker answers; None if it doesn't.

        Parameters
        ----------
        path
            What is asked for.
        body
            What is posted, if anything.
        timeout_s
            For the whole answer.
        more
            Further arguments of `httpx.AsyncClient.stream`.
        """
        method = "GET" if body is None else "POST"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.stream(
                    method, path, content=body, timeout=timeout_s, **more
                ) as response,
            ):
                content = bytearray()
                async for part in response.aiter_raw():
                    content += part
                    if len(content) > MAX_ANSWER_BYTES:
                        return None
                return Answer(self.worker, response.status_code, response.headers, bytes(content))
        except (httpx.HTTPError, TimeoutError):
            # It is starting, stopping or stuck: its parent knows.
            return None

    @asynccontextmanager
    async def events(
        self, path: str, params: Mapping[str, str]
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """A stream of server-sent events; it ends when the worker does."""
        async with self._http.stream(
            "GET", path, params=dict(params), timeout=STREAM_TIMEOUT_S
        ) as response:
            yield _events(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


async def _events(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    if response.status_code != httpx.codes.OK:
        return
    waiting = b""
    async for part in response.aiter_raw():
        *whole, waiting = (waiting + part).split(b"\n\n")
        if len(waiting) > MAX_EVENT_BYTES:
            return
        for event in whole:
            yield event + b"\n\n"


async def ask_all(clients: Sequence[Client], path: str, **more: Any) -> list[Answer]:
    """The answers of all workers that answer, by number."""
    answers = await asyncio.gather(*(client.ask(path, **more) for client in clients))
    return [answer for answer in answers if answer is not None]
