"""When results are committed: the outbox, a thread that publishes, and the schedule."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from stepstream.errors import StreamError
from stepstream.streaming.committer import COMMITTED, RETRY_S, Outcome
from stepstream.streaming.outbox import Outbox
from stepstream.streaming.partitions import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from stepstream.settings import ProcessingSettings
    from stepstream.streaming.committer import Committer
    from stepstream.streaming.membership import Membership
    from stepstream.streaming.outbox import Results
    from stepstream.streaming.partitions import Partition
    from stepstream.streaming.system import System
    from stepstream.streaming.totals import Totals

__all__ = ["COMMIT_TIMEOUT_S", "Commits"]

logger = logging.getLogger(__name__)

COMMIT_TIMEOUT_S = 30.0
CHECK_S = 0.005
"""How often a running commit is checked while no messages come."""
UNCOMMITTED_AFTER_S = 30.0
"""If results wait longer than this, the consumer is not ready."""


class Commits:
    """Commits results, one commit at a time, while the loop continues.

    A second thread publishes the results that a commit drained from the outbox. At the same time
    the loop fills the outbox again. Only the loop's thread changes the outbox and the partitions.
    So a commit that fails changes nothing: its results are put back in front of the newer ones::

        loop's thread    poll, process | poll, process | poll, process | finish: put back or note
        outbox           a             | b             | b c           | a b c  or  b c
        commit's thread      publish a ..................... aborted or committed

    Parameters
    ----------
    committer
        How results are published, which depends on the guarantee.
    membership
        Says as which member of the group.
    settings
        The intervals.
    totals
        Where commits are counted.
    system
        Clock and threads.
    """

    def __init__(
        self,
        committer: Committer,
        membership: Membership,
        settings: ProcessingSettings,
        totals: Totals,
        system: System,
    ) -> None:
        self._committer = committer
        self._membership = membership
        self._settings = settings
        self._totals = totals
        self._system = system
        self._outbox = Outbox()
        self._thread = system.executor("commit")
        self._running: Future[tuple[Outcome, int]] | None = None
        self._in_flight: list[Results] = []
        self._in_flight_records = 0
        self._in_flight_size = 0
        self._last_begin_s = system.monotonic()
        self._waiting_since_s: float | None = None

    @property
    def records(self) -> int:
        """Records that wait or are being published; any thread may ask."""
        return self._outbox.records + self._in_flight_records

    @property
    def size(self) -> int:
        """Bytes of these records; any thread may ask."""
        return self._outbox.size + self._in_flight_size

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits and nothing runs; for another thread it holds only for a moment."""
        return self._waiting_since_s is None

    @property
    def uncommitted_s(self) -> float:
        """Time for which the oldest results have not been committed; any thread may ask."""
        since_s = self._waiting_since_s
        return 0.0 if since_s is None else max(0.0, self._system.monotonic() - since_s)

    @property
    def has_open_call(self) -> bool:
        """Whether the thread is still in a call of the Kafka client; it can't be ended."""
        running = self._running
        return running is not None and not running.done()

    def add(self, results: Iterable[Results]) -> None:
        """Add results, to be committed when it is time."""
        self._outbox.add(results)
        self._note_waiting()

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Drop results of partitions that are released."""
        self._outbox.drop(partitions)
        self._note_waiting()

    def wait_s(self, longest_s: float) -> float:
        """Time until there is something to do here."""
        if self._outbox.is_empty:
            return longest_s
        least_s = 0.0 if self._running is None else CHECK_S
        return min(longest_s, max(least_s, self._due_s() - self._system.monotonic()))

    def turn(self) -> None:
        """Note a commit that has ended, and begin one if it is due.

        Raises
        ------
        StreamError
            Another attempt can't help.
        """
        if self._running is not None:
            if not self._running.done():
                if self._committer.is_hanging:
                    raise StreamError("a commit hangs in the Kafka client; a restart loses nothing")
                return
            self._finish(None)
        due = not self._outbox.is_empty and self._system.monotonic() >= self._due_s()
        if due:
            self._begin(COMMIT_TIMEOUT_S)

    def _due_s(self) -> float:
        settings = self._settings
        interval_ms = settings.commit_interval_ms
        if self._outbox.records:
            interval_ms = min(interval_ms, settings.output_interval_ms)
        return self._last_begin_s + interval_ms / 1000

    def commit_offsets(self, results: Results) -> bool:
        """Commit a partition's first offset before anything of it is published; whether it is.

        Under at-least-once, records are published before offsets are committed. Without this, a
        crash between the two would leave counted steps in the ledger, but no committed offset.
        """
        outcome = self._committer.commit_offsets([results])
        if outcome is COMMITTED:
            self.add([results])
            return True
        logger.warning("%r can't start yet, it tries again: %s", results.partition, outcome.reason)
        return False

    def commit_all(self, timeout_s: float) -> bool:
        """One attempt to commit all that waits; whether everything is committed.

        It lasts no longer than the timeout, and half a second for the calls that it waits for.
        """
        deadline_s = self._system.monotonic() + timeout_s
        self._finish(timeout_s)
        if self._running is not None:
            return False
        if self._outbox.is_empty:
            return True
        left_s = deadline_s - self._system.monotonic()
        if left_s <= 0 or not self._begin(left_s):
            return False
        return self._finish(left_s + 0.5)

    def commit_last(self, timeout_s: float, poll: Callable[[float], object]) -> None:
        """Commit all that waits before the consumer leaves its group.

        Parameters
        ----------
        timeout_s
            Time for it.
        poll
            Called between attempts: a rebalance may prevent a commit, and only polls complete it.

        Raises
        ------
        StreamError
            The time is over.
        """
        deadline_s = self._system.monotonic() + timeout_s
        while not self.commit_all(max(0.1, deadline_s - self._system.monotonic())):
            if self._system.monotonic() > deadline_s:
                raise StreamError("results were not committed in time; they will be computed again")
            poll(RETRY_S)

    def close(self) -> None:
        """End all repeated attempts; nothing more is committed."""
        self._committer.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _begin(self, timeout_s: float) -> bool:
        """Begin a commit; not while the partitions may be another member's."""
        group = self._membership.group()
        if group is None:
            return False
        self._in_flight_records, self._in_flight_size = self._outbox.records, self._outbox.size
        self._in_flight = self._outbox.drain()
        self._last_begin_s = self._system.monotonic()
        self._running = self._thread.submit(
            self._publish,
            self._in_flight,
            group,
            self._last_begin_s + timeout_s,
        )
        return True

    def _publish(
        self, results: list[Results], group: object, deadline_s: float
    ) -> tuple[Outcome, int]:
        """What the second thread does; the outcome, and when it came, microseconds."""
        begin_s = self._system.monotonic()
        try:
            return self._committer.publish(results, group, deadline_s), self._system.now_us()
        finally:
            self._totals.commit_s.add(self._system.monotonic() - begin_s)

    def _finish(self, timeout_s: float | None) -> bool:
        """Wait for the running commit; whether everything in it is committed."""
        if self._running is None:
            return True
        try:
            outcome, published_us = self._running.result(timeout_s)
        except TimeoutError:
            return False
        finally:
            if self._running.done():
                self._running = None
        # Under a new membership, Kafka would accept offsets of partitions that were lost.
        owned = self._owned(self._in_flight)
        if outcome is COMMITTED:
            outcome = self._committer.commit_offsets(owned)
        self._in_flight, self._in_flight_records, self._in_flight_size = [], 0, 0
        if outcome is COMMITTED:
            for one in owned:
                one.partition.note_committed(one.next_offset)
                # How late results of the past are says nothing of how late the present ones are.
                if not one.partition.range.is_bounded:
                    one.times.measure(self._totals, published_us / 1e6)
            self._totals.commits += 1
            self._waiting_since_s = None
        else:
            logger.warning("commit aborted, it will be repeated: %s", outcome.reason)
            self._totals.aborts += 1
            self._outbox.put_back(self._owned(outcome.left))
        self._note_waiting()
        return outcome is COMMITTED

    @staticmethod
    def _owned(results: Iterable[Results]) -> list[Results]:
        return [one for one in results if one.partition.phase is not Phase.RELEASED]

    def _note_waiting(self) -> None:
        if self._outbox.is_empty and self._running is None:
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = self._system.monotonic()
