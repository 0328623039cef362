"""What parent and worker tell each other, over a socket that one of them reads to its end.

The parent sends one order; from then on the worker reports how it is. Each message is a packet.
Whoever finds the socket closed knows that the other has ended.
"""

from __future__ import annotations

import pickle
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from stepstream.settings import ServeSettings, Settings

__all__ = ["MAX_PACKET_BYTES", "Order", "Report", "make_channel", "receive_order", "send_order"]

MAX_PACKET_BYTES = 256 << 10


@dataclass(frozen=True)
class Order:
    """What a worker is to do.

    Attributes
    ----------
    number
        The worker's number.
    settings
        All settings, with names of its own.
    socket_path
        Where it serves HTTP to the parent, if it does.
    listener
        The open socket on which it serves HTTP together with the other workers; None for a
        consumer.
    parent_path
        Where its parent serves HTTP to it, if it does.
    """

    number: int
    settings: Settings | ServeSettings
    socket_path: Path | None
    listener: int | None = None
    parent_path: Path | None = None


class Report(msgspec.Struct, frozen=True):
    """How a worker is.

    Attributes
    ----------
    is_live
        Whether its loop turns; otherwise only a restart helps.
    obstacles
        What keeps it from being ready, in words.
    error
        Why it ends, if it does so with an error of its own.
    """

    is_live: bool
    obstacles: list[str] = []
    error: str = ""


def make_channel() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel; the parent's, which never blocks, comes first."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_PACKET_BYTES)
    ours.setblocking(False)
    return ours, theirs


def send_order(channel: socket.socket, order: Order) -> None:
    """Send a worker its order: over the channel, since settings have secrets."""
    channel.send(pickle.dumps(order))


def receive_order(channel: socket.socket) -> Order:
    """The order that this process was started with.

    Raises
    ------
    EOFError
        The parent ended before it sent one.
    """
    packet = channel.recv(MAX_PACKET_BYTES)
    if not packet:
        raise EOFError("the parent has ended")
    order: Order = pickle.loads(packet)  # noqa: S301 - it comes from the process that started this
    return order
