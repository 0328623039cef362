"""Which topics are read: those that are named, and those that match a pattern."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaException

from stepstream.streaming.positions import StartRules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from confluent_kafka import Consumer

    from stepstream.settings import Settings
    from stepstream.streaming.cluster import Cluster, FoundTopic
    from stepstream.streaming.system import System

__all__ = ["Changes", "Subscription"]

logger = logging.getLogger(__name__)

SOON_S = 1.0
"""Shortest time between two looks."""


class Changes(NamedTuple):
    """Topics that were read until now: ``gone`` no longer exist, ``recreated`` are other topics."""

    gone: frozenset[str]
    recreated: frozenset[str]


NO_CHANGES = Changes(frozenset(), frozenset())


class Subscription:
    """Keeps the consumer subscribed to the topics that exist.

    The client could match patterns itself. But then a topic that can't be read would stop the
    partitions of all others, and under the group protocol `consumer` the broker matches, by other
    rules and later.

    Parameters
    ----------
    kafka
        The consumer of readings.
    cluster
        Says which topics exist.
    settings
        All settings.
    interval_s
        Time between two looks at the topics.
    system
        Clock and threads.
    """

    def __init__(
        self,
        kafka: Consumer,
        cluster: Cluster,
        settings: Settings,
        interval_s: float,
        system: System,
    ) -> None:
        self._kafka = kafka
        self._cluster = cluster
        self._topics = settings.topics
        self._start_at = None if settings.reads_ranges else settings.kafka.start_at
        self._interval_s = interval_s
        self._system = system
        self._callbacks: dict[str, Callable[..., None]] = {}
        self._thread = system.executor("topics")
        self._look: Future[dict[str, FoundTopic]] | None = None
        self._looked_s = 0.0
        self._next_look_s = 0.0
        self._ids: dict[str, str] = {}
        self._absent: frozenset[str] = frozenset()
        """Topics that the last look didn't find. One that is gone isn't found twice."""
        self._there_before: dict[str, int] = {}
        """Topics that were there when the group began with them, and how many partitions then."""
        self._committed: frozenset[str] | None = None
        """Topics in which the group had offsets at the first look; None if all start alike."""
        self._has_looked = False
        self._is_subscribed = False
        self.names = frozenset(settings.topics.named)
        """The topics that are read; any thread may ask."""
        self.refused: Mapping[str, str] = {}
        """Topics that match a pattern and aren't read, and why; any thread may ask."""

    @property
    def has_open_call(self) -> bool:
        """Whether a thread is still in a call of the Kafka client; it can't be ended."""
        return self._look is not None and not self._look.done()

    @property
    def has_one_topic(self) -> bool:
        """Whether all messages are of one topic."""
        return len(self._topics.readings) == 1 and not self._topics.patterns

    def begin(self, **callbacks: Callable[..., None]) -> None:
        """Subscribe to topics that are named, unless the first look says how they start.

        The callbacks are those of the Kafka client.
        """
        self._callbacks = callbacks
        if not self._needs_look:
            self._subscribe({*self._topics.named})

    @property
    def _needs_look(self) -> bool:
        """Whether nothing is subscribed to before a look."""
        return bool(self._topics.patterns) or self._starts_later

    @property
    def _starts_later(self) -> bool:
        """Whether a new group leaves out the first readings of a topic."""
        return self._start_at not in {None, "earliest"}

    def renew(self) -> None:
        """Leave the group, and join it as a member that has nothing."""
        self._kafka.unsubscribe()
        callbacks: dict[str, Any] = self._callbacks
        self._kafka.subscribe(sorted(self.names), **callbacks)

    def close(self) -> None:
        """End looks."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def look_soon(self) -> None:
        """Look at the topics soon: something that happens when a topic is deleted has happened."""
        self._next_look_s = min(self._next_look_s, self._looked_s + SOON_S)

    def is_matched(self, topic: str) -> bool:
        """Whether a topic is read only because it matches a pattern."""
        return topic not in self._topics.named

    def start_rules(self, topic: str, number: int) -> StartRules:
        """How a partition starts."""
        if self._start_at is None:
            return StartRules(None, self.is_matched(topic))
        was_there = number < self._there_before.get(topic, 0)
        return StartRules(self._start_at if was_there else "earliest", self.is_matched(topic))

    def turn(self) -> Changes:
        """Look at the topics if it is time, without waiting; subscribe if there are others."""
        now_s = self._system.monotonic()
        if self._look is None:
            if now_s >= self._next_look_s:
                self._looked_s = now_s
                self._look = self._thread.submit(self._find)
        elif self._look.done():
            done, self._look = self._look, None
            self._next_look_s = now_s + self._interval_s
            try:
                return self._use(done.result())
            except KafkaException as error:
                if self._needs_look and not self._has_looked:
                    logger.warning("topics can't be listed yet: %s", error.args[0].str())
                    self.look_soon()
        return NO_CHANGES

    def _find(self) -> dict[str, FoundTopic]:
        """Look; in a second thread."""
        found = self._cluster.find_topics(self._topics)
        if self._committed is None and self._starts_later:
            self._committed = self._cluster.committed_topics()
        return found

    def _begin_at(self, found: Mapping[str, FoundTopic]) -> None:
        """Use the first look."""
        self._has_looked = True
        if self._committed is not None:
            # What appears later is new, and all of it is read; also what appeared while no consumer
            # ran, after the group had begun. Somebody may have named a topic only now.
            self._there_before = {
                name: topic.identity.partition_count
                for name, topic in found.items()
                if not (self._committed if self.is_matched(name) else name in self._committed)
            }
        if not found and not self._topics.named:
            logger.warning("no topic matches %s yet", " or ".join(self._topics.patterns))

    def _use(self, found: Mapping[str, FoundTopic]) -> Changes:
        if not self._has_looked:
            self._begin_at(found)
        ids = {name: topic.identity.topic_id for name, topic in found.items()}
        recreated = {n for n, i in ids.items() if i and self._ids.get(n, i) != i} & self.names
        absent = self.names - found.keys()
        gone = {name for name in absent & self._absent if self.is_matched(name)}
        # A broker that has just started may not know a topic yet.
        if absent - self._absent:
            self._next_look_s = self._system.monotonic() + SOON_S
        self._absent = absent
        self._ids = {name: i for name, i in (self._ids | ids).items() if name not in gone}
        for name in recreated | gone:
            self._there_before.pop(name, None)
        self._note_refused({n: t.obstacle for n, t in found.items() if t.obstacle})
        matched = {name for name in found if self.is_matched(name)} | absent
        self._subscribe(({*self._topics.named} | matched) - self.refused.keys() - gone)
        return Changes(frozenset(gone), frozenset(recreated))

    def _note_refused(self, refused: Mapping[str, str]) -> None:
        for name, text in refused.items():
            if self.refused.get(name) != text:
                logger.error("topic %s matches a pattern, but it isn't read: %s", name, text)
        self.refused = refused

    def _subscribe(self, names: set[str]) -> None:
        if names == self.names and self._is_subscribed == bool(names):
            return
        added, dropped = sorted(names - self.names), sorted(self.names - names)
        if self._topics.patterns:
            logger.info("topics", extra={"read": added, "no_longer_read": dropped})
        self.names = frozenset(names)
        self._is_subscribed = bool(names)
        if names:
            callbacks: dict[str, Any] = self._callbacks
            self._kafka.subscribe(sorted(names), **callbacks)
        else:
            self._kafka.unsubscribe()
