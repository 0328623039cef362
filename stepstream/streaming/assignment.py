"""The partitions that the group has assigned to this consumer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

from stepstream.errors import StreamError
from stepstream.streaming.clients import explain_denied, rights_to_consume
from stepstream.streaming.partitions import Partition, PauseReason, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Consumer, Message

    from stepstream.settings import Settings
    from stepstream.streaming.commits import Commits
    from stepstream.streaming.flow import FlowControl
    from stepstream.streaming.membership import Membership
    from stepstream.streaming.preparation import Preparation
    from stepstream.streaming.processor import Processor
    from stepstream.streaming.subscription import Changes, Subscription
    from stepstream.streaming.system import System
    from stepstream.streaming.totals import Totals

__all__ = ["Assignment"]

logger = logging.getLogger(__name__)

UNREADABLE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED}
RELEASE_TIMEOUT_S = 5.0
"""Time for a commit before partitions are released. Nothing else blocks the loop as long, and the
whole group waits for it; what isn't committed by then is computed again."""


class Assignment:
    """The partitions that this consumer owns.

    The group's callbacks only note what is owned: they run inside a poll, and must be short.
    `Preparation` does the rest, in the turns that follow.

    Parameters
    ----------
    kafka
        The consumer of readings.
    membership
        Told of rebalances.
    processor
        Has the devices of the partitions.
    flow
        Pauses partitions until they have started.
    commits
        Commits the results of partitions before they are released.
    preparation
        Brings partitions on their way.
    subscription
        Which topics are read.
    settings
        All settings.
    totals
        Where rebalances are counted.
    system
        The clock.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - it stands between all of them
        self,
        kafka: Consumer,
        membership: Membership,
        processor: Processor,
        flow: FlowControl,
        commits: Commits,
        preparation: Preparation,
        subscription: Subscription,
        settings: Settings,
        totals: Totals,
        system: System,
    ) -> None:
        self._kafka = kafka
        self._membership = membership
        self._processor = processor
        self._flow = flow
        self._commits = commits
        self._preparation = preparation
        self._subscription = subscription
        self._settings = settings
        self._totals = totals
        self._system = system
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._is_closing = False

    @property
    def owned(self) -> list[Partition]:
        """The partitions that this consumer owns; any thread may ask."""
        return list(self._partitions.values())

    def get(self, topic: str | None, number: int | None) -> Partition | None:
        """An owned partition, if it is one."""
        return self._partitions.get((topic, number))  # type: ignore[arg-type]

    @property
    def is_preparing(self) -> bool:
        """Whether a partition is being prepared."""
        return any(partition.phase.is_preparing for partition in self._partitions.values())

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Add partitions that the group has assigned."""
        self._totals.rebalances["assigned"] += 1
        self._membership.note_assigned()
        self.add([(tp.topic, tp.partition) for tp in partitions])

    def revoke(self, partitions: Sequence[TopicPartition]) -> None:
        """Commit the results of partitions, then release them."""
        self._totals.rebalances["revoked"] += 1
        self._membership.note_rebalance()
        try:
            if not self._is_closing:
                self._commits.commit_all(RELEASE_TIMEOUT_S)
        finally:
            self._release(partitions)

    def lose(self, partitions: Sequence[TopicPartition]) -> None:
        """Release partitions that may belong to another consumer by now."""
        self._totals.rebalances["lost"] += 1
        self._membership.note_lost()
        names = sorted(f"{tp.topic}-{tp.partition}" for tp in partitions)
        logger.warning("partitions lost", extra={"partitions": names})
        self._release(partitions)

    def disown(self) -> None:
        """Drop the state of all partitions; the client still has them, until it revokes them."""
        self._totals.rebalances["lost"] += 1
        self._membership.note_lost()
        logger.warning("the group dropped this member, its partitions are given up")
        self._drop([(partition.topic, partition.number) for partition in self.owned])

    def restart(self, partitions: Sequence[Partition]) -> None:
        """Release partitions that this consumer still owns, and prepare them again."""
        self.add(self.release(partitions))

    def release(self, partitions: Sequence[Partition]) -> list[tuple[str, int]]:
        """Commit the results of partitions that are still owned, and release them; their names."""
        names = [(partition.topic, partition.number) for partition in partitions]
        if names:
            # What can't be committed in time is computed again.
            self._commits.commit_all(RELEASE_TIMEOUT_S)
            self._release([TopicPartition(*name) for name in names])
        return names

    def add(self, names: Sequence[tuple[str, int]]) -> None:
        """Add partitions, by topic and number, and pause them until they have started."""
        now_s = self._system.monotonic()
        added = [self._processor.add_partition(topic, number) for topic, number in names]
        for partition in added:
            partition.assigned_s = now_s
            self._partitions[partition.topic, partition.number] = partition
        self._preparation.begin()
        # An explicit offset that is never out of range. Otherwise the client would look one up
        # itself, or stop reading the partition, and a seek would not start it again.
        self._kafka.incremental_assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for topic, number in names]
        )
        self._flow.pause(added, PauseReason.PREPARING)

    def close(self) -> None:
        """Commit nothing more when partitions are revoked."""
        self._is_closing = True

    def apply(self, changes: Changes) -> None:
        """Drop partitions of topics that are gone, and begin again with those of recreated ones.

        Nothing of them is committed: Kafka would refuse it, and everything else in the same
        transaction, or take the offsets for those of the new topic.
        """
        if changes.gone or changes.recreated:
            names = list(self._partitions)
            self._drop([name for name in names if name[0] in changes.gone])
            again = [name for name in names if name[0] in changes.recreated]
            self._release([TopicPartition(*name) for name in again])
            self.add(again)

    def _release(self, released: Sequence[TopicPartition]) -> None:
        self._drop([(tp.topic, tp.partition) for tp in released])
        self._kafka.incremental_unassign(list(released))

    def _drop(self, names: Sequence[tuple[str, int]]) -> None:
        """Forget partitions; the client keeps those of topics that are gone until it is told."""
        found = (self._partitions.pop(name, None) for name in names)
        partitions = [partition for partition in found if partition is not None]
        for partition in partitions:
            partition.enter(Phase.RELEASED)
            self._processor.remove_partition(partition)
        self._commits.drop(partitions)
        self._preparation.drop(partitions)
        logger.info("partitions released", extra={"partitions": sorted(map(repr, partitions))})

    def handle_error(self, message: Message, error: KafkaError) -> None:
        """Deal with an error that the client hands over among the messages.

        Raises
        ------
        StreamError
            The consumer can't go on.
        """
        partition = self.get(message.topic(), message.partition())
        is_consuming = partition is not None and partition.phase.is_consuming
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            if partition is not None and partition.takes_messages:
                partition.lag.reached_offset = message.offset() or 0
            return
        if error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001 - its public name
            if partition is not None and is_consuming:
                # Its next message doesn't exist: it was deleted, or it never existed.
                self.restart([partition])
            return
        if error.fatal() or error.code() == KafkaError._FATAL:  # noqa: SLF001 - its public name
            shared = "; another process uses its transactional id (kafka.transactional_id)"
            hint = shared if "group.instance.id" in error.str() else ""
            raise StreamError(f"the consumer can't continue: {error.str()}{hint}")
        if error.code() in UNREADABLE and self._subscription.is_matched(message.topic() or ""):
            self._subscription.look_soon()
            return
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise StreamError(f"{error.str()}; create the topics with: stepstream topics")
        denied = explain_denied(error, rights_to_consume(self._settings))
        if denied is not None:
            raise denied
        logger.warning("consumer: %s", error.str())
