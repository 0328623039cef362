from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import KafkaError, KafkaException

from stepstream.streaming.checkpoints import Checkpoint
from stepstream.streaming.cluster import Committed
from stepstream.streaming.holding import ASK_S, Holds, release_group
from stepstream.streaming.partitions import Phase
from stepstream.streaming.positions import Start
from tests.streaming.test_outbox import partition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pytest

    from stepstream.streaming.outbox import Results
    from stepstream.streaming.partitions import Partition

HELD = Checkpoint(90, 1_000, 4_000, 0, "id", 4, next_offset=100, is_held=True)
NAME = ("readings", 0)


class Around:
    """Everything around `Holds`: cluster, commits, assignment, clock and threads."""

    group = "steps"

    def __init__(self) -> None:
        self.now_s = 0.0
        self.marked = -1
        self.error: KafkaError | None = None
        self.asked: list[str] = []
        self.owned = [held_partition()]
        self.committed: list[Results] = []
        self.restarted: list[Partition] = []

    def committed_offsets(self, names: Iterable[Any], group: str = "") -> dict[Any, Committed]:
        self.asked.append(group)
        if self.error is not None:
            raise KafkaException(self.error)
        found = Committed(self.marked, "") if group else Committed(100, HELD.encode())
        return dict.fromkeys(names, found)

    def add(self, results: Iterable[Results]) -> None:
        self.committed += results

    def restart(self, partitions: Iterable[Partition]) -> None:
        self.restarted += partitions

    def monotonic(self) -> float:
        return self.now_s

    def executor(self, _: str) -> Any:
        return self

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments))
        except KafkaException as error:
            done.set_exception(error)
        return done


def held_partition() -> Partition:
    made = partition()
    made.enter(Phase.RESTORING)
    made.start_at(Start(100, HELD, is_held=True))
    made.next_offset = 100
    made.enter(Phase.RUNNING)
    return made


def turn(around: Around, holds: Holds) -> None:
    around.now_s += ASK_S
    holds.turn()
    holds.turn()


def made(around: Around) -> Holds:
    one = cast("Any", around)
    return Holds(one, one, one, one)


def test_a_partition_that_is_marked_is_committed_without_its_hold_and_prepared_again() -> None:
    around = Around()
    holds = made(around)
    turn(around, holds)
    assert around.asked == [release_group("steps")]
    assert not around.restarted
    around.marked = 100
    turn(around, holds)
    (results,) = around.committed
    assert results.next_offset == 100
    # All else stays, so that the replay begins where it would have begun.
    assert Checkpoint.decode(results.metadata) == replace(HELD, is_held=False)
    assert around.restarted == around.owned


def test_the_mark_of_an_earlier_hold_releases_nothing() -> None:
    around = Around()
    around.marked = 99
    turn(around, made(around))
    assert around.asked == [release_group("steps")]
    assert not around.restarted


def test_nobody_is_asked_while_nothing_is_held_or_its_results_are_not_committed() -> None:
    around = Around()
    holds = made(around)
    around.owned[0].committed_offset = 99
    turn(around, holds)
    around.owned[0].is_held = False
    turn(around, holds)
    assert not around.asked


def test_a_missing_right_is_named_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    around = Around()
    holds = made(around)
    around.error = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            turn(around, holds)
    assert len(around.asked) == 5
    (line,) = caplog.messages
    assert "DESCRIBE on steps.release-partition" in line
