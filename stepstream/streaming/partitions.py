"""What the consumer knows of each input partition that it owns."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepstream.detection import Ledger

__all__ = ["Partition", "Phase"]


class Phase(Enum):
    """Where an owned partition stands.

    ::

        ASSIGNED ──> RUNNING
            │           │
            └───────────┴──> (revoked or lost: forgotten)

    """

    ASSIGNED = auto()
    """Ours since the last rebalance, paused; nothing of it is taken."""
    RUNNING = auto()
    """Its messages are processed."""


class Partition:
    """One owned input partition.

    Parameters
    ----------
    topic, number
        Its topic and number.
    epoch
        Number of the rebalance that gave it to this consumer; what was computed under another
        epoch is not published.
    ledger
        Step counts of its devices.
    """

    def __init__(self, topic: str, number: int, epoch: int, ledger: Ledger) -> None:
        self.topic = topic
        self.number = number
        self.epoch = epoch
        self.ledger = ledger
        self.phase = Phase.ASSIGNED
        self.next_offset = 0
        """Offset of the next message to take; messages below it were taken before."""
        self.stream_ms = 0
        """Stream time: the running maximum of the records' times, milliseconds."""
        self.next_sweep_ms = 0
        """Stream time from which idle devices are looked for again."""
        self.slots: dict[bytes, int] = {}
        """Slots of the devices with a window, by message key."""

    def __repr__(self) -> str:
        return f"{self.topic}-{self.number}"

    def start(self) -> None:
        """Begin to process messages."""
        if self.phase is not Phase.ASSIGNED:
            raise RuntimeError(f"{self!r} can't start from {self.phase}")
        self.phase = Phase.RUNNING

    def advance(self, next_offset: int) -> None:
        """Note that all messages below ``next_offset`` were taken."""
        if next_offset < self.next_offset:
            raise RuntimeError(f"{self!r} would go back from {self.next_offset} to {next_offset}")
        self.next_offset = next_offset
