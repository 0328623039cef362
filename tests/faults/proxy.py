"""A TCP proxy between clients and the broker that can be slow, stalled or closed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from concurrent.futures import Future
    from random import Random
    from typing import Any, Self

CHUNK = 16_384


class Proxy:
    """Passes bytes on, in a thread of its own.

    Parameters
    ----------
    listen, target
        Host and port of the proxy and of what is behind it.
    """

    def __init__(self, listen: str, target: str) -> None:
        self._listen = listen.split(":")
        self._target = target.split(":")
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._passing = asyncio.Event()
        self._server: asyncio.Server
        self.delay_s = 0.0
        """Before each chunk is passed on."""
        self.bytes_per_s = 0.0
        """Of each connection in each direction; 0 is no limit."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._passing.set()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self, share: float, random: Random) -> None:
        """Close some of the connections that are open."""
        self._run(self._cut(share, random)).result()

    def refuse(self) -> None:
        """Close all connections and take none, as if nothing listened here, until `accept`."""
        self._run(self._refuse()).result()

    def accept(self) -> None:
        """Take connections, again."""
        host, port = self._listen
        self._server = self._run(asyncio.start_server(self._serve, host, int(port))).result()

    def stall(self) -> None:
        """Pass nothing on, without closing anything, until `restore`."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def restore(self) -> None:
        """Pass everything on at once again."""
        self.delay_s = self.bytes_per_s = 0.0
        self._loop.call_soon_threadsafe(self._passing.set)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _close(self) -> None:
        self._server.close()
        self._passing.set()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        await self._cut(1.0, None)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _refuse(self) -> None:
        self._server.close()
        await self._cut(1.0, None)

    async def _cut(self, share: float, random: Random | None) -> None:
        for writer in list(self._connections.values()):
            if random is None or random.random() < share:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            host, port = self._target
            behind_reader, behind_writer = await asyncio.open_connection(host, int(port))
            await asyncio.gather(
                self._pass(reader, behind_writer), self._pass(behind_reader, writer)
            )
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("not in a task")
        self._connections[task] = writer
        try:
            with suppress(OSError):
                while chunk := await reader.read(CHUNK):
                    slow_s = len(chunk) / self.bytes_per_s if self.bytes_per_s else 0.0
                    if self.delay_s or slow_s:
                        await asyncio.sleep(self.delay_s + slow_s)
                    await self._passing.wait()
                    writer.write(chunk)
                    await writer.drain()
        finally:
            # Whoever is left must not wait for one that is gone.
            del self._connections[task]
            writer.close()
