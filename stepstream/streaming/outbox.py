"""Results that wait to be committed, with the offsets they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepstream.streaming.totals import Times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepstream.outputs import OutputRecord
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.processor import Outputs

__all__ = ["Outbox", "Sealed", "seal"]


@dataclass(slots=True)
class Sealed:
    """What one partition's finished polls gave, up to an offset.

    Attributes
    ----------
    partition
        The partition under the assignment that it was computed for.
    next_offset
        The offset to commit: everything below it is in here or was committed before.
    metadata
        What to commit with it, see `Checkpoint`.
    events
        Key and value of each event.
    dead_letters
        Messages to be set aside.
    state
        Key and value of each ledger record, the last one of each device.
    times
        When some of the messages came about, to see how long they took.
    """

    partition: Partition
    next_offset: int
    metadata: str = ""
    events: list[tuple[bytes, bytes]] = field(default_factory=list)
    dead_letters: list[OutputRecord] = field(default_factory=list)
    state: dict[bytes, bytes | None] = field(default_factory=dict)
    times: Times = field(default_factory=Times)

    def __len__(self) -> int:
        return len(self.events) + len(self.dead_letters) + len(self.state)

    def follow(self, later: Sealed) -> None:
        """Take in what ``later`` holds, which was sealed after this."""
        if later.next_offset < self.next_offset:
            raise RuntimeError(f"{self.partition!r}: offsets would go back")
        self.events += later.events
        self.dead_letters += later.dead_letters
        self.state.update(later.state)
        self.times.add(later.times)
        self.metadata = later.metadata
        self.next_offset = later.next_offset


def seal(results: Iterable[tuple[Partition, Outputs]]) -> list[Sealed]:
    """What a poll gave, in the form in which it is committed."""
    return [
        Sealed(
            partition,
            outputs.next_offset,
            outputs.metadata,
            outputs.events,
            outputs.dead_letters,
            outputs.state,
            outputs.times,
        )
        for partition, outputs in results
    ]


class Outbox:
    """Sealed results, merged for each partition, until a commit takes them.

    An abort loses nothing and rolls nothing back: what a commit took is put back, in front of
    what was sealed meanwhile.
    """

    def __init__(self) -> None:
        self._waiting: dict[Partition, Sealed] = {}

    def __len__(self) -> int:
        """Records that wait to be produced."""
        return sum(map(len, self._waiting.values()))

    @property
    def is_empty(self) -> bool:
        """Whether not even an offset waits."""
        return not self._waiting

    def seal(self, results: Iterable[tuple[Partition, Outputs]]) -> None:
        """Add what a poll gave."""
        for sealed in seal(results):
            self._add(sealed)

    def take(self) -> list[Sealed]:
        """Everything that waits, to be committed at once."""
        taken = list(self._waiting.values())
        self._waiting = {}
        return taken

    def put_back(self, taken: Iterable[Sealed]) -> None:
        """Return what could not be committed."""
        newer = self._waiting
        self._waiting = {}
        for sealed in taken:
            self._add(sealed)
        for sealed in newer.values():
            self._add(sealed)

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Forget what waits for partitions that are no longer owned."""
        for partition in partitions:
            self._waiting.pop(partition, None)

    def _add(self, sealed: Sealed) -> None:
        waiting = self._waiting.setdefault(sealed.partition, sealed)
        if waiting is not sealed:
            waiting.follow(sealed)
