"""The membership of a consumer in its group, as far as the client leaves it to the application."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from confluent_kafka import Consumer

    from stepstream.settings import Settings
    from stepstream.streaming.client_statistics import ClientStatistics
    from stepstream.streaming.system import System

__all__ = ["Membership"]

REJOIN_S = 1.2
"""Time after a rebalance in which the client joins another one only with our help."""
FIRST_PARTITIONS_S = 10.0
"""A member that has got no partition by then gets none. They have to be revoked from others first,
which takes two rebalances; under the protocol ``consumer``, two heartbeats of 5 s."""
METADATA_INTERVAL_S = 0.05
METADATA_TIMEOUT_S = 1.0
LEAVE_POLL_S = 0.01


class Membership:
    """Joins again fast, knows whether the group still has this member, and leaves.

    Parameters
    ----------
    kafka
        The consumer of readings.
    settings
        All settings.
    statistics
        Of this client.
    system
        Clock and threads.

    Notes
    -----
    With the classic protocol, members are static: each has a name, its transactional id. A process
    that is started again under this name gets its partitions back without waiting for the session
    of its predecessor. Two things are done here that librdkafka (2.16) doesn't do by itself:

    - It joins a group at most once a second, and a partition that moves to another member needs two
      rebalances. Each answer to a request for metadata lifts that limit.
    - A static member doesn't leave when it closes: it might come back. But it does leave when it
      unsubscribes, so that others get its partitions at once.
    """

    def __init__(
        self, kafka: Consumer, settings: Settings, statistics: ClientStatistics, system: System
    ) -> None:
        self._kafka = kafka
        self._topic = settings.topics.state
        self._is_static = settings.kafka.group_protocol == "classic"
        self._statistics = statistics
        self._system = system
        self._metadata_thread = system.executor("metadata")
        self._asked: Future[object] | None = None
        self._ask_at_s = self._rejoins_until_s = -math.inf
        self._joined_s: float | None = None
        """When the group first assigned partitions (or none), unless they were lost since."""
        self._has_member_id = True
        self._has_news = False

    @property
    def is_member(self) -> bool:
        """Whether the group has assigned its partitions (or none), and they aren't lost."""
        return self._joined_s is not None and self._has_member_id

    @property
    def has_just_joined(self) -> bool:
        """Whether others may still have to give up this member's first partitions."""
        joined_s = self._joined_s
        return joined_s is not None and self._system.monotonic() - joined_s < FIRST_PARTITIONS_S

    def note_rebalance(self, *, is_lost: bool = False) -> None:
        """The group has assigned or revoked partitions (or none), or they are lost."""
        now_s = self._system.monotonic()
        if is_lost:
            self._joined_s = None
        elif self._joined_s is None:
            self._joined_s = now_s
        self._statistics.forget_join_state()
        self._ask_at_s, self._rejoins_until_s = now_s, now_s + REJOIN_S

    def note_statistics(self) -> None:
        """New statistics have come, once a second."""
        self._has_news = True

    def turn(self) -> None:
        """Help the client to join again, and look whether the group still has this member."""
        if self._has_news:
            # A member without partitions has none to lose when the group drops it. Not in the
            # callback, which may run while the client closes and answers no more.
            self._has_news = False
            self._has_member_id = bool(self._kafka.memberid())
        now_s = self._system.monotonic()
        if self._is_static and self._ask_at_s <= now_s < self._rejoins_until_s:
            self._ask_at_s = now_s + METADATA_INTERVAL_S
            if self._asked is None or self._asked.done():
                self._asked = self._metadata_thread.submit(self._ask_for_metadata)

    def leave(self, timeout_s: float, poll: Callable[[float], object]) -> None:
        """Have the group give this member's partitions to others at once.

        While the client waits for its place in the group, the request to leave would wait behind
        that, and time out.

        Parameters
        ----------
        timeout_s
            Time for it; then the group notices when the session is over.
        poll
            Serves the client.
        """
        deadline_s = self._system.monotonic() + timeout_s
        while self._statistics.is_joining and self._system.monotonic() < deadline_s:
            poll(LEAVE_POLL_S)
        if self._is_static:
            self._kafka.unsubscribe()
            while self._kafka.memberid() and self._system.monotonic() < deadline_s:
                poll(LEAVE_POLL_S)

    def close(self) -> None:
        """Ask for nothing more."""
        self._metadata_thread.shutdown(wait=False, cancel_futures=True)

    def _ask_for_metadata(self) -> None:
        with suppress(KafkaException):
            self._kafka.list_topics(self._topic, timeout=METADATA_TIMEOUT_S)
