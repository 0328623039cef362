"""The process of a worker, as its parent has it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec

from stepstream.workers.reports import MAX_PACKET_BYTES, Report, make_channel, send_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stepstream.workers.reports import Order

__all__ = ["WorkerProcess"]

MODULE = "stepstream.commands.worker"

_decode = msgspec.json.Decoder(Report).decode


class WorkerProcess:
    """A process of a worker; it ends when its parent does.

    Parameters
    ----------
    order
        What it is to do.
    lock
        Open file that holds its number; it has to be held as long as the process lives.

    Raises
    ------
    OSError
        No process can be started.
    """

    def __init__(self, order: Order, lock: int) -> None:
        self._channel, theirs = make_channel()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - a module of our own
                # Its modules are those of this process, wherever that was started.
                [sys.executable, "-P", "-m", MODULE, str(order.number)],
                stdin=theirs.fileno(),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=(lock,) if order.listener is None else (lock, order.listener),
                # A terminal's Ctrl-C reaches the parent only, which stops all.
                process_group=0,
            )
        try:
            send_order(self._channel, order)
        except OSError:
            self._process.kill()
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs; below 0 if a signal ended it."""
        return self._process.poll()

    def reports(self) -> Iterator[Report]:
        """What it has reported since the last time."""
        while True:
            try:
                packet = self._channel.recv(MAX_PACKET_BYTES)
            except (BlockingIOError, ConnectionError):
                return
            if not packet:
                return
            yield _decode(packet)

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def close(self) -> None:
        """Let go of it: a process that still runs ends then."""
        self._channel.close()
        self._process.wait()
