"""When results are committed, what becomes of those that aren't, and how long it may take."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from stepstream.errors import StreamError
from stepstream.settings import ProcessingSettings
from stepstream.streaming.commits import Commits
from stepstream.streaming.committer import COMMITTED, Outcome
from stepstream.streaming.partitions import Phase
from stepstream.streaming.ranges import Range
from stepstream.streaming.totals import Totals
from tests.streaming.records import Clock
from tests.streaming.test_outbox import partition, results, values

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stepstream.streaming.outbox import Results

SETTINGS = ProcessingSettings(commit_interval_ms=100, output_interval_ms=20)


class Waiting(Future[Any]):
    """A call that is made when somebody waits for it; the clock goes on by what it takes."""

    def __init__(self, clock: HandClock, call: Callable[[], Any]) -> None:
        super().__init__()
        self._clock = clock
        self._call = call

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            if timeout is not None and timeout < self._clock.call_s:
                self._clock.now_s += timeout
                self._clock.call_s -= timeout
                raise TimeoutError
            self.make()
        return super().result(0)

    def make(self) -> None:
        self._clock.now_s += self._clock.call_s
        self.set_result(self._call())


class HandClock(Clock):
    """Its calls take `call_s` and are made when they are waited for."""

    call_s = 0.0
    started: Waiting | None = None

    def executor(self, name: str) -> Any:  # noqa: ARG002
        return self

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Waiting:
        self.started = Waiting(self, lambda: call(*arguments))
        return self.started

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None: ...


@dataclass
class Member:
    name: str | None = "member-1"

    def group(self) -> str | None:
        return self.name


@dataclass
class Scripted:
    """A committer whose outcomes a test sets; the default is that all is committed."""

    publishing: list[str] = field(default_factory=list)
    committing: list[str] = field(default_factory=list)
    published: list[list[bytes | None]] = field(default_factory=list)
    is_hanging: bool = False

    def open(self, timeout_s: float) -> None: ...

    def close(self) -> None: ...

    def publish(self, given: Sequence[Results], _group: Any, _deadline_s: float) -> Outcome:
        reason = self.publishing.pop(0) if self.publishing else ""
        if reason:
            return Outcome(given, reason)
        self.published.append([value for one in given for value in values(one)])
        return COMMITTED

    def commit_offsets(self, given: Sequence[Results]) -> Outcome:
        reason = self.committing.pop(0) if self.committing else ""
        return Outcome(given, reason) if reason else COMMITTED


def commits(**script: Any) -> tuple[Commits, Scripted, HandClock, Totals, Member]:
    committer, clock, totals, member = Scripted(**script), HandClock(), Totals(), Member()
    made = Commits(committer, cast("Any", member), SETTINGS, totals, clock)
    return made, committer, clock, totals, member


def finish(made: Commits, clock: HandClock) -> None:
    """Let a running commit end, and note it."""
    assert clock.started is not None
    clock.started.make()
    made.turn()


def test_results_are_committed_when_it_is_time_and_offsets_a_little_later() -> None:
    made, committer, clock, _, _ = commits()
    mine = partition()
    made.add([results(mine, 5, b"a")])
    assert made.wait_s(9) == pytest.approx(0.02)
    made.turn()
    assert clock.started is None
    clock.now_s += 0.021
    made.turn()
    finish(made, clock)
    assert committer.published == [[b"a"]]
    assert mine.committed_offset == 5
    assert made.is_settled
    made.add([results(mine, 6)])
    assert made.wait_s(9) == pytest.approx(0.1)


def test_results_of_an_aborted_commit_go_in_front_of_what_came_meanwhile() -> None:
    made, committer, clock, totals, _ = commits(publishing=["refused"])
    mine = partition()
    made.add([results(mine, 5, b"a")])
    clock.now_s += 1
    made.turn()
    made.add([results(mine, 7, b"b")])
    assert made.records == 2
    finish(made, clock)
    assert (mine.committed_offset, totals.aborts) == (0, 1)
    clock.now_s += 1
    made.turn()
    finish(made, clock)
    assert committer.published == [[b"a", b"b"]]
    assert (mine.committed_offset, totals.commits, made.records) == (7, 1, 0)


def test_results_of_a_released_partition_are_dropped_even_if_their_commit_ran() -> None:
    made, _, clock, _, _ = commits(publishing=["refused"])
    lost, mine = partition(0), partition(1)
    made.add([results(lost, 5, b"a"), results(mine, 5, b"b")])
    clock.now_s += 1
    made.turn()
    lost.enter(Phase.RELEASED)
    made.drop([lost])
    finish(made, clock)
    assert made.records == 1
    assert made.commit_all(1)
    assert (lost.committed_offset, mine.committed_offset) == (0, 5)


def test_latency_is_measured_once_however_often_a_commit_is_tried() -> None:
    made, _, clock, totals, _ = commits(committing=["rebalance", "rebalance"])
    mine = partition()
    one = results(mine, 5, b"a")
    one.times.note(np.array([clock.now_us() - 500_000]), np.array([clock.now_us() // 1000 - 250]))
    made.add([one])
    for _ in range(3):
        clock.now_s += 1
        made.turn()
        finish(made, clock)
    assert (totals.commits, totals.aborts) == (1, 2)
    assert sum(totals.broker_latency_s.counts) == sum(totals.reading_latency_s.counts) == 1


def test_no_latency_is_measured_of_a_range_of_the_past() -> None:
    made, _, clock, totals, _ = commits()
    mine = partition()
    mine.range = Range(0, 100)
    one = results(mine, 5, b"a")
    one.times.note(np.array([clock.now_us()]), np.array([clock.now_us() // 1000]))
    one.times.note_events(np.array([clock.now_us() // 1000]))
    made.add([one])
    clock.now_s += 1
    made.turn()
    finish(made, clock)
    assert totals.commits == 1
    assert sum(totals.reading_latency_s.counts) == sum(totals.broker_latency_s.counts) == 0
    assert sum(totals.event_lateness_s.counts) == 0


def test_a_consumer_that_is_no_member_commits_nothing_and_says_for_how_long() -> None:
    made, committer, clock, _, member = commits()
    member.name = None
    made.add([results(partition(), 5, b"a")])
    clock.now_s += 31
    made.turn()
    assert not made.commit_all(1)
    assert not committer.published
    assert made.uncommitted_s == pytest.approx(31)
    member.name = "member-2"
    assert made.commit_all(1)
    assert made.uncommitted_s == 0


def test_committing_everything_takes_no_longer_than_it_may() -> None:
    made, _, clock, _, _ = commits()
    mine = partition()
    made.add([results(mine, 5, b"a")])
    clock.now_s += 1
    made.turn()
    made.add([results(mine, 6, b"b")])
    clock.call_s = 100.0
    begin_s = clock.now_s
    assert not made.commit_all(5)
    assert clock.now_s - begin_s <= 5.5
    clock.call_s = 4.0
    begin_s = clock.now_s
    assert not made.commit_all(5)
    assert clock.now_s - begin_s <= 5.5


def test_a_commit_that_hangs_ends_the_process() -> None:
    made, committer, clock, _, _ = commits()
    made.add([results(partition(), 5, b"a")])
    clock.now_s += 1
    made.turn()
    committer.is_hanging = True
    with pytest.raises(StreamError, match="a commit hangs"):
        made.turn()


def test_the_last_commit_is_tried_until_the_time_is_over() -> None:
    made, _, clock, _, _ = commits(publishing=["rebalance"] * 3)
    made.add([results(partition(), 5, b"a")])
    made.commit_last(5, clock.sleep)
    assert made.is_settled
    made, _, clock, _, _ = commits(publishing=["rebalance"] * 999)
    made.add([results(partition(), 5, b"a")])
    with pytest.raises(StreamError, match="not committed in time"):
        made.commit_last(5, clock.sleep)
