"""The results of partitions' messages, and the outbox in which they wait for a commit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepstream.streaming.totals import Times

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stepstream.outputs import OutputRecord
    from stepstream.streaming.partitions import Partition

__all__ = ["Outbox", "Results"]


@dataclass(slots=True)
class Results:
    """What is computed from messages of one partition, up to an offset.

    Attributes
    ----------
    partition
        The partition, with the assignment for which this was computed.
    next_offset
        The offset to commit: results of all messages below it are in here or were committed.
    metadata
        What to commit with it, see `Checkpoint`.
    records
        What is published first: events and dead letters.
    latest
        What is published after these, the last record of each topic and key: ledger and counts.
    times
        When some of the messages were sent and received, to measure their latency.
    messages, readings, replayed, events, minutes, walks, dead_letters
        How many there were: messages and their valid readings (without those that were replayed),
        messages that only rebuilt windows, events, minutes, walks, and dead letters by error code.
    """

    partition: Partition
    next_offset: int = 0
    metadata: str = ""
    records: list[OutputRecord] = field(default_factory=list)
    latest: dict[tuple[str, bytes | None], OutputRecord] = field(default_factory=dict)
    times: Times = field(default_factory=Times)
    messages: int = 0
    readings: int = 0
    replayed: int = 0
    events: int = 0
    minutes: int = 0
    walks: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)

    def add_latest(self, record: OutputRecord) -> None:
        """Add a record of which only the last with its key is needed."""
        self.latest[record.topic, record.key] = record

    @property
    def record_count(self) -> int:
        """Records to be published."""
        return len(self.records) + len(self.latest)

    @property
    def size(self) -> int:
        """Bytes of these records."""
        return sum(r.size for r in self.records) + sum(r.size for r in self.latest.values())

    def merge(self, later: Results) -> None:
        """Add the results of later messages.

        Raises
        ------
        RuntimeError
            They belong to earlier messages.
        """
        if later.next_offset < self.next_offset:
            raise RuntimeError(f"{self.partition!r}: offsets would go back")
        self.records += later.records
        self.latest.update(later.latest)
        self.times.add(later.times)
        self.metadata = later.metadata
        self.next_offset = later.next_offset


class Outbox:
    """Results that wait to be committed, merged for each partition.

    An abort loses nothing and undoes nothing: the results of an aborted commit are put back, in
    front of those that were added in the meantime.
    """

    def __init__(self) -> None:
        self._waiting: dict[Partition, Results] = {}
        self.records = 0
        """Records that wait; like `size`, any thread may read it."""
        self.size = 0
        """Their bytes."""

    @property
    def is_empty(self) -> bool:
        """Whether not even an offset waits."""
        return not self._waiting

    def add(self, results: Iterable[Results]) -> None:
        """Add the results of a poll."""
        for one in results:
            self._count(one.record_count, one.size)
            waiting = self._waiting.get(one.partition)
            if waiting is None:
                self._waiting[one.partition] = one
                continue
            replaced = [waiting.latest[key] for key in one.latest.keys() & waiting.latest.keys()]
            waiting.merge(one)
            self._count(-len(replaced), -sum(record.size for record in replaced))

    def drain(self) -> list[Results]:
        """Remove and return everything that waits."""
        drained = list(self._waiting.values())
        self._waiting = {}
        self.records = self.size = 0
        return drained

    def put_back(self, results: Iterable[Results]) -> None:
        """Put results back that could not be committed."""
        newer = self.drain()
        self.add([*results, *newer])

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Drop the results of partitions that are released."""
        for partition in partitions:
            dropped = self._waiting.pop(partition, None)
            if dropped is not None:
                self._count(-dropped.record_count, -dropped.size)

    def _count(self, records: int, size: int) -> None:
        self.records += records
        self.size += size
