"""How values of metrics are read from a consumer."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Protocol

from stepstream.streaming.partitions import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from stepstream.detection import Model
    from stepstream.streaming.client_statistics import ClientStatistics
    from stepstream.streaming.consumer import Consumer
    from stepstream.streaming.partitions import Partition

    Labelled: TypeAlias = Mapping[tuple[str, ...], float]
    Labels: TypeAlias = Mapping[str, str]
    Reader: TypeAlias = Callable[[Consumer], Labelled]

__all__ = [
    "Process",
    "by",
    "by_client",
    "by_partition",
    "doubtful_topics",
    "headroom_s",
    "lag_s",
    "model",
    "phases",
    "starting_s",
    "topics",
]


class Health(Protocol):
    """How a process is."""

    @property
    def is_ready(self) -> bool:
        """Whether it is ready."""


class Process(Protocol):
    """A process that serves, with Kafka or without."""

    @property
    def health(self) -> Health:
        """How it is."""

    @property
    def model(self) -> Model:
        """Its network."""


def by(values: Iterable[str], read: Callable[[Consumer, str], float]) -> Reader:
    """A value for each of a label's values."""
    return lambda consumer: {(value,): read(consumer, value) for value in values}


def phases(consumer: Consumer) -> Labelled:
    counts = Counter(partition.phase for partition in consumer.assignment.owned)
    return {(phase.name.lower(),): counts[phase] for phase in Phase if phase is not Phase.RELEASED}


def by_partition(read: Callable[[Partition], float | None]) -> Reader:
    """A value for each partition that has one."""

    def read_all(consumer: Consumer) -> Labelled:
        values = ((partition, read(partition)) for partition in consumer.assignment.owned)
        return {(p.topic, str(p.number)): value for p, value in values if value is not None}

    return read_all


def by_client(read: Callable[[ClientStatistics], float]) -> Reader:
    return lambda consumer: {
        (name,): read(statistics) for name, statistics in consumer.statistics.items()
    }


def lag_s(partition: Partition) -> float | None:
    lag_ms = partition.lag_ms(time.time_ns() // 1_000_000)
    return None if lag_ms is None else lag_ms / 1000


def headroom_s(consumer: Consumer) -> Labelled:
    return by_partition(consumer.retention.headroom_s)(consumer)


def starting_s(consumer: Consumer) -> float:
    began_s = [p.assigned_s for p in consumer.assignment.owned if not p.phase.is_settled]
    return time.monotonic() - min(began_s) if began_s else 0.0


def model(process: Process) -> Labels:
    metadata = process.model.metadata
    return {"model": metadata.label, "name": metadata.name, "version": metadata.version}


def topics(consumer: Consumer) -> Labelled:
    subscription = consumer.subscription
    return {("read",): len(subscription.names), ("refused",): len(subscription.refused)}


def doubtful_topics(consumer: Consumer, doubt: str) -> int:
    verdicts = consumer.processor.doubts.verdicts
    return sum(doubt in verdict.doubts for verdict in verdicts.values())
