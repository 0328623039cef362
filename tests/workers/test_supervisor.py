"""The supervisor with processes and a clock of the test's own."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from stepstream.workers.reports import Report
from stepstream.workers.supervisor import (
    FORGIVEN_AFTER_S,
    MAX_REFUSALS,
    NOT_LIVE_S,
    PAUSES_S,
    QUIET_S,
    START_TIMEOUT_S,
    Phase,
    Supervisor,
)
from tests.workers.builders import STOP_TIMEOUT_S, STUCK_AFTER_S, FakeProcess, World

if TYPE_CHECKING:
    import pytest


def test_a_killed_worker_is_back_at_once_and_the_others_are_left_alone() -> None:
    world = World()
    world.say(0)
    world.say(1)
    world.end(0)
    assert len(world.processes[0]) == 2
    assert world.processes[0][0].is_closed
    assert world.phase(0) is Phase.STARTING
    assert world.phase(1) is Phase.RUNNING
    assert not world.newest(1).signals
    assert world.supervisor.workers[0].restarts == 1


def test_the_pause_before_a_restart_grows_until_the_worker_is_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World()
    world.steady = {1}
    for pause_s in PAUSES_S:
        world.say(0)
        started = len(world.processes[0])
        world.end(0)
        if pause_s:
            assert world.phase(0) is Phase.WAITING
            world.pass_time(pause_s * 0.99)
            assert len(world.processes[0]) == started
            world.pass_time(pause_s * 0.02)
        assert len(world.processes[0]) == started + 1
    world.say(0)
    world.end(0)
    assert world.phase(0) is Phase.GIVEN_UP
    assert world.supervisor.given_up == [world.supervisor.workers[0]]
    assert "given up" in caplog.records[-1].message
    assert caplog.records[-1].levelname == "ERROR"
    world.pass_time(3_600)
    assert not world.supervisor.is_over
    assert "given up: signal SIGKILL" in world.supervisor.obstacles()[0][0]
    assert not world.newest(1).signals


def test_a_worker_that_has_lived_for_a_while_is_forgiven() -> None:
    world = World(1)
    for _ in range(5 * len(PAUSES_S)):
        world.say(0)
        world.pass_time(FORGIVEN_AFTER_S)
        world.end(0)
        assert world.phase(0) is Phase.STARTING


def test_a_start_that_is_refused_again_and_again_is_given_up_soon_and_with_the_reason() -> None:
    world = World()
    for _ in range(MAX_REFUSALS):
        for number in (0, 1):
            world.newest(number).said.append(Report(False, ["no topic"], "no topic"))
            world.end(number, 1)
        world.pass_time(1.0)
    assert world.supervisor.is_over
    assert [worker.error for worker in world.supervisor.given_up] == ["no topic"] * 2
    assert len(world.processes[0]) == MAX_REFUSALS


def test_a_wrong_setting_is_given_up_at_once() -> None:
    world = World(1)
    world.end(0, 2)
    assert world.phase(0) is Phase.GIVEN_UP


def test_a_refusal_after_another_worker_was_ready_is_tried_for_longer() -> None:
    # The brokers may be away for some minutes.
    world = World()
    world.say(1)
    world.steady = {1}
    for _ in range(MAX_REFUSALS + 2):
        world.end(0, 1)
        world.pass_time(40.0)
    assert world.phase(0) is Phase.STARTING


def test_a_worker_whose_loop_is_stuck_is_killed_and_started_again() -> None:
    world = World(1)
    world.say(0)
    stuck = world.newest(0)
    begin_s = world.now_s
    while world.now_s - begin_s <= NOT_LIVE_S:
        assert not stuck.signals
        world.now_s += 0.5
        world.say(0, Report(False, ["the loop is stuck"]))
    world.pass_time(0.2)
    assert stuck.signals == [signal.SIGKILL]
    assert world.newest(0) is not stuck


def test_a_worker_that_says_nothing_is_unready_first_and_killed_then() -> None:
    world = World(1)
    world.say(0)
    assert world.supervisor.obstacles() == {0: []}
    world.pass_time(QUIET_S + 1)
    assert "says nothing for 4 s" in world.supervisor.obstacles()[0][0]
    world.pass_time(STUCK_AFTER_S - QUIET_S - 2)
    assert not world.newest(0).signals
    world.pass_time(2)
    assert world.newest(0).signals == [signal.SIGKILL]


def test_a_start_that_takes_too_long_is_ended() -> None:
    world = World(1)
    world.pass_time(START_TIMEOUT_S + 1)
    assert world.newest(0).signals == [signal.SIGKILL]


def test_stopping_ends_all_and_kills_those_that_do_not_end_in_time() -> None:
    world = World(3)
    for number in range(3):
        world.say(number)
    world.end(2)
    world.end(2)
    assert world.phase(2) is Phase.WAITING
    world.supervisor.stop()
    world.supervisor.stop()
    assert world.newest(0).signals == world.newest(1).signals == [signal.SIGTERM]
    world.end(0, 0)
    world.pass_time(STOP_TIMEOUT_S - 1)
    assert [world.phase(number) for number in range(3)] == [Phase.ENDED, Phase.RUNNING, Phase.ENDED]
    world.pass_time(2)
    world.pass_time(0.2)
    assert world.newest(1).signals == [signal.SIGTERM, signal.SIGKILL]
    assert world.supervisor.is_over
    assert not world.supervisor.given_up
    assert len(world.processes[0]) == 1


def test_signals_reach_all_and_a_later_process_is_told_too() -> None:
    world = World()
    world.supervisor.signal(signal.SIGHUP)
    assert [world.newest(n).signals for n in (0, 1)] == [[signal.SIGHUP]] * 2
    world.supervisor.greet_with(signal.SIGUSR1)
    world.end(0)
    assert world.newest(0).signals == [signal.SIGUSR1]
    world.supervisor.greet_with(None)
    world.pass_time(FORGIVEN_AFTER_S)
    world.end(0)
    assert not world.newest(0).signals


def test_a_process_that_cannot_be_started_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failing = [True]

    def launch(number: int) -> FakeProcess:
        if failing:
            failing.pop()
            raise BlockingIOError("no more processes")
        return FakeProcess(number)

    supervisor = Supervisor(launch, 1, STUCK_AFTER_S, STOP_TIMEOUT_S, lambda: 0.0)
    supervisor.turn()
    assert supervisor.workers[0].phase is Phase.STARTING
    assert "no more processes" in caplog.text


def test_the_age_of_the_last_turn_is_known() -> None:
    world = World()
    world.now_s += 7
    assert world.supervisor.last_turn_age_s == 7
