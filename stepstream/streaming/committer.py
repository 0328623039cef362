"""What both guarantees have in common: publishing results and committing their offsets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from confluent_kafka import KafkaError, Producer, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from stepstream.outputs import OutputRecord
    from stepstream.settings import TopicSettings
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.system import System

    OnDelivery = Callable[[KafkaError | None, object], None]

__all__ = [
    "COMMITTED",
    "RETRY_S",
    "Committer",
    "Outcome",
    "first_records",
    "latest_records",
    "offsets_of",
    "produce",
    "rights_to_read",
    "rights_to_write",
]

RETRY_S = 0.02


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt to publish or to commit.

    Attributes
    ----------
    left
        Results that are not committed; they may be tried again.
    reason
        Why not, in words.
    """

    left: Sequence[Results] = ()
    reason: str = ""


COMMITTED = Outcome()
"""Nothing is left."""


class Committer(Protocol):
    """Publishes results and commits their offsets.

    Both methods that commit raise `StreamError` where another attempt can't help.
    """

    def open(self, timeout_s: float) -> None:
        """Prepare; called once, before anything else."""

    def publish(self, results: Sequence[Results], group: Any, deadline_s: float) -> Outcome:
        """Publish the records of results; in the committer's thread.

        Parameters
        ----------
        results
            Of each partition once.
        group
            The consumer's group metadata, read when the partitions' ownership was checked.
        deadline_s
            Time by the monotonic clock after which no further attempt is made.
        """

    def commit_offsets(self, results: Sequence[Results]) -> Outcome:
        """Commit the offsets of published results; in the loop's thread.

        It is called for the first offset of a new partition, too, before anything is published.
        """

    def close(self) -> None:
        """End all repeated attempts; another thread calls it."""

    @property
    def is_hanging(self) -> bool:
        """Whether a call of the Kafka client has lasted much longer than its timeout."""


BY_KEY = -1
"""The client's default for a partition: the key decides."""
NOW_MS = 0
"""The client's default for the time of a record: now."""


def first_records(results: Iterable[Results]) -> Iterator[OutputRecord]:
    """All records that are published before the ledger."""
    return (record for one in results for record in one.records)


def latest_records(results: Iterable[Results]) -> Iterator[OutputRecord]:
    """The ledger, and other records of which only the latest is needed."""
    return (record for one in results for record in one.latest.values())


def offsets_of(results: Iterable[Results]) -> list[TopicPartition]:
    """The offsets to commit, with their metadata."""
    return [
        TopicPartition(one.partition.topic, one.partition.number, one.next_offset, one.metadata)
        for one in results
    ]


def rights_to_write(topics: TopicSettings) -> str:
    """The rights that publishing needs."""
    return f"WRITE on {', '.join(topics.written)}"


def rights_to_read(results: Iterable[Results]) -> str:
    """The rights that committing offsets needs."""
    return f"READ on {', '.join(sorted({one.partition.topic for one in results}))}"


def produce(
    producer: Producer,
    records: Iterable[OutputRecord],
    deadline_s: float,
    system: System,
    on_delivery: OnDelivery | None = None,
) -> None:
    """Give records to the client, and wait for room in its queue until the deadline.

    Raises
    ------
    BufferError
        The queue stays full.
    """
    send = producer.produce
    for topic, key, value, headers, number, time_ms in records:
        # By place: names cost the client as much as the record itself.
        partition = BY_KEY if number is None else number
        arguments = topic, value, key, partition, on_delivery, None, time_ms or NOW_MS
        while True:
            try:
                # It takes no None for headers.
                send(*arguments, list(headers)) if headers else send(*arguments)
            except BufferError:
                if system.monotonic() >= deadline_s:
                    raise
                producer.poll(RETRY_S)
            else:
                break
    producer.poll(0)
