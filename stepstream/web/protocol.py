"""HTTP/1.1 within bounds: of connections, of the time to send a request, and to read an answer."""

from __future__ import annotations

import socket
import struct
import sys
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from stepstream.web.answers import SECURITY_HEADERS

if TYPE_CHECKING:
    import asyncio

    from stepstream.web.traffic import Reason, Traffic

__all__ = ["MAX_HEADER_BYTES", "BoundedProtocol"]

REQUEST_TIMEOUT_S = 10.0
"""A request must have come as a whole by then, and an idle connection ends."""
WRITE_TIMEOUT_S = 10.0
"""By then a client must have read what waits for it, so that the rest can be written."""
MAX_HEADER_BYTES = 16 << 10
TOO_LARGE = 431

_ranks = count()
"""The order in which connections became idle; several can be made at one time of the clock."""


class BoundedProtocol(H11Protocol):
    """One connection.

    A new connection is always let in, so that probes are answered whatever others do. If there
    are too many, the peer with the most loses one: the one that is idle the longest, else its
    oldest.

    Parameters
    ----------
    traffic
        Counts what is refused.
    max_connections
        At a time.
    more
        As uvicorn gives it.
    """

    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _rank = 0
    _is_idle = False

    def __init__(self, traffic: Traffic, max_connections: int, **more: Any) -> None:
        super().__init__(**more)
        self._traffic = traffic
        self._max_connections = max_connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the connection in; make room for it if there are too many."""
        super().connection_made(transport)
        self._rank = next(_ranks)
        self._traffic.connections = len(self.connections)
        self._wait_for_request()
        if len(self.connections) > self._max_connections:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._stop_writing()
        super().connection_lost(exc)
        self._traffic.connections = len(self.connections)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        if self._is_idle:
            self._is_idle = False
            self._stop_waiting()
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or begin with it if it is here."""
        answered = self.cycle
        self._stop_waiting()
        self._rank = next(_ranks)
        super().on_response_complete()
        self._is_idle = self.cycle is answered
        self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for a reader: the buffer is full."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_TIMEOUT_S, self._drop, "slow-reader")

    def resume_writing(self) -> None:
        """Go on: the reader has read."""
        self._stop_writing()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, or has too many bytes of headers."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        reason: Reason = "headers" if status == TOO_LARGE else "malformed"
        self._traffic.refusals[reason] += 1
        if self.cycle is not None:
            # Its application must not answer, too.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.abort()
            return
        body = msgspec.json.encode({"error": reason, "detail": msg})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *SECURITY_HEADERS.items(),
        ]
        response = h11.Response(status_code=status if status == TOO_LARGE else 400, headers=headers)
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def _is_answering(self) -> bool:
        """Whether a request is here as a whole, and its answer is not."""
        cycle = self.cycle
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""

    def _make_room(self) -> None:
        others = [one for one in self.connections if one is not self]
        open_ones = [one for one in others if isinstance(one, BoundedProtocol)]
        held = Counter(one._peer for one in (self, *open_ones))  # noqa: SLF001 - of the same class
        most = max(held[one._peer] for one in open_ones)  # noqa: SLF001
        victim = min(
            (one for one in open_ones if held[one._peer] == most),  # noqa: SLF001
            key=lambda one: (one._is_answering, one._rank),  # noqa: SLF001
        )
        self.connections.discard(victim)
        victim._drop("connections")  # noqa: SLF001

    def _watch(self) -> None:
        if self._is_answering:
            self._stop_waiting()
        elif self._timer is None:
            self._wait_for_request()

    def _wait_for_request(self) -> None:
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self._expire)

    def _expire(self) -> None:
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self._drop("slow-reader")
            return
        if not self._is_idle:
            self._traffic.refusals["slow-request"] += 1
        self.transport.close()

    def _drop(self, reason: Reason) -> None:
        self._traffic.refusals[reason] += 1
        if reason == "slow-reader":
            # Otherwise the kernel keeps what wasn't read, and goes on offering it.
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_writing(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
