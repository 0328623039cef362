"""The statistics that librdkafka gives once a second, as far as they are used."""

from __future__ import annotations

import msgspec

__all__ = ["ClientStatistics", "PartitionStatistics"]

JOINING = {"wait-join", "wait-sync"}
"""States of a member whose request to join the broker answers when all others have joined."""
SILENT_US = 2_000_000
"""A broker that is asked for messages answers twice a second, also if there are none."""


class _Spread(msgspec.Struct, frozen=True):
    avg: int = 0
    p99: int = 0


class _Broker(msgspec.Struct, frozen=True):
    nodeid: int = -1
    source: str = ""
    state: str = ""
    rxidle: int = -1
    txbytes: int = 0
    rxbytes: int = 0
    txerrs: int = 0
    rxerrs: int = 0
    req_timeouts: int = 0
    disconnects: int = 0
    rtt: _Spread = _Spread()
    throttle: _Spread = _Spread()


class PartitionStatistics(msgspec.Struct, frozen=True):
    """Statistics of one partition that the client reads.

    Attributes
    ----------
    broker
        Id of the broker that it is read from; -1 for none.
    ls_offset
        Its last stable offset: the end of what a `read_committed` consumer can read; below 0 as
        long as it isn't known.
    """

    broker: int = -1
    ls_offset: int = -1


class _Topic(msgspec.Struct, frozen=True):
    partitions: dict[str, PartitionStatistics] = {}


class _Group(msgspec.Struct, frozen=True):
    join_state: str = ""


class _Statistics(msgspec.Struct, frozen=True):
    brokers: dict[str, _Broker] = {}
    topics: dict[str, _Topic] = {}
    cgrp: _Group = _Group()


_decode = msgspec.json.Decoder(_Statistics).decode


class ClientStatistics:
    """The last statistics of a client; each update replaces them as a whole.

    All values but those of ``partitions`` are zero until the first have come.
    """

    def __init__(self) -> None:
        self._last: _Statistics | None = None
        self._join_state = ""

    def update(self, text: str) -> None:
        """Use what the client gives to its ``stats_cb``."""
        self._last = _decode(text)
        self._join_state = self._last.cgrp.join_state

    @property
    def _brokers(self) -> list[_Broker]:
        return list(self._last.brokers.values()) if self._last else []

    @property
    def has_come(self) -> bool:
        """Whether there are any yet."""
        return self._last is not None

    @property
    def is_joining(self) -> bool:
        """Whether the client waits for its place in the group."""
        return self._join_state in JOINING and self.connections > 0

    def forget_join_state(self) -> None:
        """It has changed since the last statistics."""
        self._join_state = ""

    @property
    def connections(self) -> int:
        """Connections to brokers that are up."""
        return sum(broker.state == "UP" for broker in self._brokers)

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to all brokers."""
        return sum(broker.txbytes for broker in self._brokers)

    @property
    def received_bytes(self) -> int:
        """Bytes received from all brokers."""
        return sum(broker.rxbytes for broker in self._brokers)

    @property
    def errors(self) -> int:
        """Requests that couldn't be sent, answers that couldn't be read, and timeouts."""
        return sum(b.txerrs + b.rxerrs + b.req_timeouts for b in self._brokers)

    @property
    def disconnects(self) -> int:
        """Connections that ended."""
        return sum(broker.disconnects for broker in self._brokers)

    @property
    def round_trip_s(self) -> float:
        """99th percentile of the last second's requests at the slowest broker."""
        return max((broker.rtt.p99 for broker in self._brokers), default=0) / 1e6

    @property
    def throttle_s(self) -> float:
        """Average time for which the strictest broker throttled requests in the last second."""
        return max((broker.throttle.avg for broker in self._brokers), default=0) / 1e3

    def is_heard(self, broker: int) -> bool:
        """Whether a broker, by its id, has just answered on the connection for messages."""
        return any(
            known.nodeid == broker and known.state == "UP" and 0 <= known.rxidle < SILENT_US
            for known in self._brokers
            # The coordinator has a connection of its own.
            if known.source != "logical"
        )

    def partition(self, topic: str, number: int) -> PartitionStatistics | None:
        """What is known of a partition."""
        found = self._last and self._last.topics.get(topic)
        return found.partitions.get(str(number)) if found else None
