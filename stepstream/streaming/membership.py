"""The membership of a consumer in its group, as far as the client leaves it to the application."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException

if TYPE_CHECKING:
    from collections.abc import Callable

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
LEAVE_POLL_S = 0.01


class Membership:
    """Joins again fast, knows whether the group still has this member, and leaves.

    A member's partitions are its own as long as it has the id under which they were assigned.

    Parameters
    ----------
    kafka
        The consumer of readings.
    settings
        All settings.
    statistics
        Of this client.
    system
        The clock.

    Notes
    -----
    With the classic protocol, members are static: each has a name, its transactional id. A process
    that is started again under this name gets its partitions back without waiting for the session
    of its predecessor. Three things are done here that librdkafka (2.16) doesn't do by itself:

    - It joins a group at most once a second, and a partition that moves to another member needs two
      rebalances. Each answer to a request for metadata lifts that limit.
    - A static member doesn't leave when it closes: it might come back. But it does leave when it
      unsubscribes, so that others get its partitions at once.
    - If the group has dropped a static member that just asks to join, the client joins under a new
      id and keeps its partitions, which others may have had in between. `has_been_replaced` says
      so; `group` lets nothing be committed then.
    """

    def __init__(
        self, kafka: Consumer, settings: Settings, statistics: ClientStatistics, system: System
    ) -> None:
        self._kafka = kafka
        self._topic = settings.topics.state
        self._is_static = settings.kafka.group_protocol == "classic"
        self._statistics = statistics
        self._system = system
        self._ask_at_s = self._rejoins_until_s = -math.inf
        self._joined_s: float | None = None
        """When the group first assigned partitions (or none), unless they were lost since."""
        self._has_member_id = True
        self._member_id = ""
        """Under which partitions were assigned; empty if there are none."""
        self._is_doubtful = False
        """Whether a commit was held back since the last look."""
        self._has_news = False

    @property
    def member_id(self) -> str:
        """The id under which partitions were assigned, empty if there are none."""
        return self._member_id

    @property
    def is_member(self) -> bool:
        """Whether the group has assigned its partitions (or none), and they aren't lost."""
        return self._joined_s is not None and self._has_member_id

    @property
    def has_just_joined(self) -> bool:
        """Whether others may still have to give up this member's first partitions."""
        joined_s = self._joined_s
        return joined_s is not None and self._system.monotonic() - joined_s < FIRST_PARTITIONS_S

    def has_been_replaced(self) -> bool:
        """Whether the client has another member id than that which partitions were assigned to."""
        if not self._is_doubtful:
            return False
        self._is_doubtful = False
        current = self._kafka.memberid()
        return bool(current) and current != self._member_id

    def group(self) -> Any | None:
        """What a commit says of this member; None if its partitions may be another's."""
        if self._is_same():
            group = self._kafka.consumer_group_metadata()
            # An id never comes again: if it is the same now, it was the same in between.
            if self._is_same():
                return group
        self._is_doubtful = True
        return None

    def _is_same(self) -> bool:
        return bool(self._member_id) and self._kafka.memberid() == self._member_id

    def note_assigned(self) -> None:
        """The group has assigned partitions (or none); not while the client closes."""
        self._member_id = self._member_id or self._kafka.memberid()
        if self._joined_s is None:
            self._joined_s = self._system.monotonic()
        self.note_rebalance()

    def note_lost(self) -> None:
        """The partitions are lost."""
        self._member_id = ""
        self._joined_s = None
        self.note_rebalance()

    def note_rebalance(self) -> None:
        """Something has become of the group."""
        now_s = self._system.monotonic()
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
            self._ask_for_metadata()

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

    def _ask_for_metadata(self) -> None:
        # The answer is the client's own, and nobody waits for it. In another thread, the call
        # could wait for as long as this one polls: the client makes one call at a time.
        with suppress(KafkaException):
            self._kafka.list_topics(self._topic, timeout=0)
