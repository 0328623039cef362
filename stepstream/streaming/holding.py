"""Held partitions, and how a person releases them.

A hold is committed with the offset at which it began, see `Checkpoint`: it outlives the consumer.
Nobody but a member can change what an active group has committed. So the command to release a
partition commits the same offset as a mark, in a group that has no members::

    group                     offset 700, held          offset 700              offset 912
    <group>.release-partition              offset 700                  (deleted)
                                           the command  the partition's owner

A mark for another offset means an earlier hold, and is ignored.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException

from stepstream.errors import StreamError
from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.clients import check_connection, explain_denied, explain_kafka_errors
from stepstream.streaming.outbox import Results
from stepstream.streaming.partitions import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future

    from stepstream.settings import KafkaSettings
    from stepstream.streaming.assignment import Assignment
    from stepstream.streaming.cluster import Cluster, Committed
    from stepstream.streaming.commits import Commits
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.system import System

__all__ = ["Holds", "release_group", "release_partition"]

logger = logging.getLogger(__name__)

ASK_S = 2.0
"""Between two looks for marks."""
WARN_S = 60.0
ASK_AGAIN_S = 0.2


def release_group(group: str) -> str:
    """The group in which the partitions are marked that a person releases."""
    return f"{group}.release-partition"


class Holds:
    """Releases held partitions when a person says so.

    Parameters
    ----------
    cluster
        Knows what is committed.
    commits
        Commits that a partition is no longer held.
    assignment
        Prepares the partition again then.
    system
        Clock and threads.
    """

    def __init__(
        self, cluster: Cluster, commits: Commits, assignment: Assignment, system: System
    ) -> None:
        self._cluster = cluster
        self._commits = commits
        self._assignment = assignment
        self._system = system
        self._thread = system.executor("holds")
        self._asked: Future[dict[Partition, Committed]] | None = None
        self._next_s = 0.0
        self._warned_s = -WARN_S

    @property
    def has_open_call(self) -> bool:
        """Whether a thread is still in a call of the Kafka client; it can't be ended."""
        return self._asked is not None and not self._asked.done()

    def close(self) -> None:
        """Look for no more marks."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def turn(self) -> None:
        """Look for marks if there are held partitions, without waiting; release what is marked."""
        if self._asked is not None:
            if self._asked.done():
                done, self._asked = self._asked, None
                self._release(done)
            return
        now_s = self._system.monotonic()
        if now_s < self._next_s:
            return
        held = [p for p in self._assignment.owned if _is_resting(p)]
        if held:
            self._next_s = now_s + ASK_S
            self._asked = self._thread.submit(self._find_released, held)

    def _find_released(self, held: Sequence[Partition]) -> dict[Partition, Committed]:
        """Those of the partitions that are marked, and what is committed of them."""
        names = {(p.topic, p.number): p for p in held}
        marks = self._cluster.committed_offsets(names, release_group(self._cluster.group))
        marked = [n for n, mark in marks.items() if mark.offset == names[n].committed_offset]
        committed = self._cluster.committed_offsets(marked) if marked else {}
        return {names[name]: one for name, one in committed.items()}

    def _release(self, done: Future[dict[Partition, Committed]]) -> None:
        try:
            found = done.result()
        except KafkaException as error:
            self._warn(error)
            return
        released = []
        for partition, committed in found.items():
            checkpoint = Checkpoint.decode(committed.metadata)
            if checkpoint is None or not _is_resting(partition):
                continue
            metadata = replace(checkpoint, is_held=False).encode()
            self._commits.add([Results(partition, committed.offset, metadata)])
            logger.info("partition released by command", extra={"partition": repr(partition)})
            released.append(partition)
        if released:
            # If the commit fails, they are held again, and marked still.
            self._assignment.restart(released)

    def _warn(self, error: KafkaException) -> None:
        now_s = self._system.monotonic()
        if now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            group = release_group(self._cluster.group)
            denied = explain_denied(error.args[0], {"group": f"DESCRIBE on {group}"})
            reason = denied or error.args[0].str()
            logger.warning("held partitions can't be released by command: %s", reason)


def _is_resting(partition: Partition) -> bool:
    """Whether a partition is held, and everything before that is committed."""
    is_committed = partition.committed_offset == partition.next_offset
    return partition.is_held and partition.phase is Phase.RUNNING and is_committed


def release_partition(
    kafka: KafkaSettings, cluster: Cluster, topic: str, number: int, timeout_s: float
) -> bool:
    """Mark a held partition as released, and wait until its owner has taken notice.

    Parameters
    ----------
    kafka
        How to connect, and the group.
    cluster
        Knows and marks what is committed.
    topic, number
        The partition.
    timeout_s
        Longest time to wait.

    Returns
    -------
    bool
        Whether it is released; otherwise the mark stays until a consumer sees it.

    Raises
    ------
    StreamError
        The partition isn't held, or Kafka refuses.
    """
    check_connection(kafka)
    name, group = (topic, number), release_group(kafka.group_id)
    deadline_s = time.monotonic() + timeout_s
    with explain_kafka_errors("can't release"):
        held_at = _held_at(cluster, name, deadline_s)
        if held_at is None:
            raise StreamError(f"{topic}-{number} isn't held in group {kafka.group_id}")
        while True:
            # Each time: another command that is done deletes all marks.
            cluster.commit(group, name, held_at)
            if _held_at(cluster, name, deadline_s) != held_at:
                cluster.delete_group(group)
                return True
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(ASK_AGAIN_S)


def _held_at(cluster: Cluster, name: tuple[str, int], deadline_s: float) -> int | None:
    """The offset at which a partition is held; None if it isn't."""
    while (committed := cluster.committed_offsets([name]).get(name)) is None:
        if time.monotonic() >= deadline_s:
            raise StreamError("a transaction that changes the committed offset doesn't end")
        time.sleep(ASK_AGAIN_S)
    checkpoint = Checkpoint.decode(committed.metadata)
    is_held = checkpoint is not None and checkpoint.is_held
    return committed.offset if is_held else None
