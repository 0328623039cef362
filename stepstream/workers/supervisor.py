"""Starts workers, watches them, restarts them, and gives those up that can't be kept running."""

from __future__ import annotations

import enum
import logging
import math
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stepstream.workers.reports import Report

__all__ = ["Phase", "Process", "Supervisor", "Worker"]

logger = logging.getLogger(__name__)

PAUSES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 30.0)
"""Pause before each restart in a row; after one more death the worker is given up."""
MAX_REFUSALS = 3
"""Starts that end with an error in a row, before any worker was ready."""
SETTINGS_EXIT_CODE = 2
FORGIVEN_AFTER_S = 10.0
"""A worker that lived this long, and wasn't refused, begins to count anew."""
START_TIMEOUT_S = 60.0
NOT_LIVE_S = 5.0
"""A worker whose loop is stuck is killed if it says so for this time."""
QUIET_S = 3.0
"""A worker that says nothing for this time isn't ready; it speaks four times a second."""


class Process(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int:
        """Process id."""

    def exit_code(self) -> int | None:
        """None while it runs; below 0 if a signal ended it."""

    def reports(self) -> Iterable[Report]:
        """What it has reported since the last time."""

    def send(self, number: int) -> None:
        """Send a signal."""

    def close(self) -> None:
        """Let go of what connects to it."""


class Phase(enum.Enum):
    """Where a worker is.

    ::

        WAITING ──> STARTING ──> RUNNING
           ^           │            │       its process has ended: again after a pause,
           ├───────────┴────────────┤       or never again,
           │                        ├──> GIVEN_UP
           └────────────────────────┴──> ENDED      or because all are stopped
    """

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    GIVEN_UP = "given-up"
    ENDED = "ended"


OVER = {Phase.GIVEN_UP, Phase.ENDED}


@dataclass
class Worker:
    """One worker, over the lives of its processes.

    Attributes
    ----------
    number
        It counts from 0.
    phase
        Where it is.
    process
        The one that runs, while one does.
    due_s
        When it starts, while it waits.
    started_s, heard_s, live_s
        When its process was started, last heard of, and last live.
    was_ready, was_killed
        Whether this process has been ready, and whether it was sent SIGKILL.
    obstacles
        What keeps it from being ready, as it last said.
    error
        Why its last process ended.
    deaths, refusals, restarts
        Processes that ended in a row, those of them that never became ready and ended with an
        error, and all restarts.
    """

    number: int
    phase: Phase = Phase.WAITING
    process: Process | None = None
    due_s: float = 0.0
    started_s: float = 0.0
    heard_s: float = math.inf
    live_s: float = 0.0
    was_ready: bool = False
    was_killed: bool = False
    obstacles: tuple[str, ...] = ()
    error: str = ""
    deaths: int = 0
    refusals: int = 0
    restarts: int = 0


class Supervisor:
    """Keeps workers running until it is told to stop.

    Parameters
    ----------
    launch
        Starts the process of a worker.
    count
        How many workers.
    stuck_after_s
        Time after which a worker that says nothing is killed.
    stop_timeout_s
        Time that workers have to stop before they are killed.
    monotonic
        The clock, seconds.
    """

    def __init__(
        self,
        launch: Callable[[int], Process],
        count: int,
        stuck_after_s: float,
        stop_timeout_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._launch = launch
        self._stuck_after_s = stuck_after_s
        self._stop_timeout_s = stop_timeout_s
        self._monotonic = monotonic
        self.workers = [Worker(number) for number in range(count)]
        self._kill_at_s = math.inf
        self._is_stopping = False
        self._was_ready = False
        """Whether any worker has ever been ready: the settings are right."""
        self._late_signals: set[int] = set()
        self._last_turn_s = monotonic()

    @property
    def is_over(self) -> bool:
        """Whether no worker runs, and none will."""
        return all(worker.phase in OVER for worker in self.workers)

    @property
    def given_up(self) -> list[Worker]:
        """Workers that couldn't be kept running."""
        return [worker for worker in self.workers if worker.phase is Phase.GIVEN_UP]

    @property
    def last_turn_age_s(self) -> float:
        """Seconds since the last turn; from any thread."""
        return self._monotonic() - self._last_turn_s

    def turn(self) -> None:
        """Start what is due, hear what runs, bury what has ended; several times a second."""
        now_s = self._last_turn_s = self._monotonic()
        for worker in self.workers:
            if worker.phase is Phase.WAITING and worker.due_s <= now_s:
                self._start(worker, now_s)
            if worker.process is not None:
                self._hear(worker, worker.process, now_s)
                self._check(worker, worker.process, now_s)

    def stop(self) -> None:
        """Have all workers stop; those that don't in time are killed."""
        if self._is_stopping:
            return
        self._is_stopping = True
        self._kill_at_s = self._monotonic() + self._stop_timeout_s
        for worker in self.workers:
            if worker.process is not None:
                worker.process.send(signal.SIGTERM)
            elif worker.phase is Phase.WAITING:
                worker.phase = Phase.ENDED

    def signal(self, number: int) -> None:
        """Send a signal to all workers."""
        for worker in self.workers:
            if worker.process is not None:
                worker.process.send(number)

    def greet_with(self, number: int | None) -> None:
        """From now on, send a signal to each process that starts; None sends none."""
        self._late_signals = set() if number is None else {number}

    def obstacles(self) -> dict[int, list[str]]:
        """What keeps each worker from being ready; from any thread."""
        now_s = self._monotonic()
        return {worker.number: _obstacles(worker, now_s) for worker in self.workers}

    def _start(self, worker: Worker, now_s: float) -> None:
        try:
            worker.process = self._launch(worker.number)
        except OSError as error:
            worker.error = f"it can't be started: {error}"
            worker.started_s = now_s
            self._plan(worker, now_s)
            return
        worker.phase = Phase.STARTING
        worker.started_s = worker.heard_s = worker.live_s = now_s
        worker.was_ready = worker.was_killed = False
        worker.obstacles = ()
        for number in self._late_signals:
            worker.process.send(number)

    def _hear(self, worker: Worker, process: Process, now_s: float) -> None:
        for report in process.reports():
            worker.phase = Phase.RUNNING
            worker.heard_s = now_s
            worker.obstacles = tuple(report.obstacles)
            if report.is_live:
                worker.live_s = now_s
            if not report.obstacles:
                worker.was_ready = self._was_ready = True
            worker.error = report.error

    def _check(self, worker: Worker, process: Process, now_s: float) -> None:
        exit_code = process.exit_code()
        if exit_code is not None:
            self._hear(worker, process, now_s)
            self._bury(worker, process, exit_code, now_s)
        elif worker.was_killed:
            return
        elif now_s >= self._kill_at_s:
            _kill(worker, process, "worker didn't stop in time, it is killed")
        elif not self._is_stopping and self._is_stuck(worker, now_s):
            _kill(worker, process, "worker is stuck, it is killed")

    def _is_stuck(self, worker: Worker, now_s: float) -> bool:
        if worker.phase is Phase.STARTING:
            return now_s - worker.started_s > START_TIMEOUT_S
        quiet_s = now_s - worker.heard_s
        return quiet_s > self._stuck_after_s or worker.heard_s - worker.live_s > NOT_LIVE_S

    def _bury(self, worker: Worker, process: Process, exit_code: int, now_s: float) -> None:
        process.close()
        worker.process = None
        if self._is_stopping:
            worker.phase = Phase.ENDED
            if exit_code != 0:
                logger.error(
                    "worker ended badly", extra={**_extra(worker), "how": _cause(exit_code)}
                )
            return
        is_refusal = exit_code > 0 and not worker.was_ready
        worker.error = worker.error or _cause(exit_code)
        if now_s - worker.started_s >= FORGIVEN_AFTER_S and not is_refusal:
            worker.deaths = 0
        worker.refusals = worker.refusals + 1 if is_refusal else 0
        if is_refusal and exit_code == SETTINGS_EXIT_CODE:
            worker.refusals = MAX_REFUSALS
        self._plan(worker, now_s)

    def _plan(self, worker: Worker, now_s: float) -> None:
        """Plan a restart, or give the worker up."""
        worker.deaths += 1
        is_hopeless = worker.refusals >= MAX_REFUSALS and not self._was_ready
        if is_hopeless or worker.deaths > len(PAUSES_S):
            worker.phase = Phase.GIVEN_UP
            logger.error(
                "worker is given up, the others go on: %s",
                worker.error,
                extra={**_extra(worker), "deaths": worker.deaths},
            )
            return
        pause_s = PAUSES_S[worker.deaths - 1]
        worker.phase, worker.due_s = Phase.WAITING, now_s + pause_s
        worker.restarts += 1
        logger.warning(
            "worker ended and is started again: %s",
            worker.error,
            extra={**_extra(worker), "pause_s": pause_s},
        )
        if not pause_s:
            self._start(worker, now_s)


def _obstacles(worker: Worker, now_s: float) -> list[str]:
    # A copy: the supervisor's thread may change it meanwhile.
    phase, quiet_s = worker.phase, now_s - worker.heard_s
    if phase is Phase.WAITING:
        return [f"it ended and waits for its restart: {worker.error}"]
    if phase is Phase.STARTING:
        return ["it is starting"]
    if phase is Phase.GIVEN_UP:
        return [f"it was given up: {worker.error}"]
    if phase is Phase.ENDED:
        return ["it is stopped"]
    if quiet_s > QUIET_S:
        return [f"it says nothing for {quiet_s:.0f} s"]
    return list(worker.obstacles)


def _kill(worker: Worker, process: Process, reason: str) -> None:
    logger.error(reason, extra=_extra(worker))
    worker.was_killed = True
    process.send(signal.SIGKILL)


def _extra(worker: Worker) -> dict[str, object]:
    process = worker.process
    return {"worker": worker.number, **({} if process is None else {"pid": process.pid})}


def _cause(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"
