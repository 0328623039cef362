"""Processes and threads whose every step, and whose time, a seed decides.

A task is a real thread that runs only while the world lets it. It runs until it waits for
something, and then the world chooses the next task. So a schedule is repeatable with any number of
threads, and hours of it pass in seconds.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from stepstream.streaming.system import System

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

STEP_S = 0.0005
"""Time of a step."""


class Killed(BaseException):
    """Raised in a task whose process is dead, wherever it waits."""


class Process:
    """Tasks that live and die together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.frozen_until_s = 0.0
        self.error: BaseException | None = None
        """What ended it, if it wasn't killed."""


class Task:
    """A thread of a process, and what it waits for."""

    def __init__(self, world: World, process: Process, work: Callable[[], object]) -> None:
        self.process = process
        self.is_done = False
        self.wake_s = 0.0
        self.condition: Callable[[], object] | None = None
        self._turn = threading.Semaphore(0)
        self._world = world
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._turn.acquire()
        try:
            if not self.process.is_dead:
                self._work()
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.process.error = error
        self.is_done = True
        self._world.baton.release()

    def resume(self) -> None:
        """Let it run until it waits again or ends; called by the world."""
        self._turn.release()
        self._world.baton.acquire()
        if self.is_done:
            self._thread.join()

    def give_way(self) -> None:
        """Wait to be resumed; called by the task itself."""
        self._world.baton.release()
        self._turn.acquire()


class World(System):
    """Schedules tasks and has the clock; time passes only by steps, or when every task waits.

    It is the consumers' clock and makes their threads.

    Parameters
    ----------
    random
        Chooses who goes next.
    now_s
        Time at the beginning, seconds since the epoch.
    """

    def __init__(self, random: Random, now_s: float) -> None:
        self.random = random
        self.now_s = now_s
        self.baton = threading.Semaphore(0)
        self.tasks: list[Task] = []
        self.steps = 0
        self._current: Task | None = None

    @property
    def process(self) -> Process:
        """The process whose task is running."""
        if self._current is None:
            raise RuntimeError("no task is running")
        return self._current.process

    def monotonic(self) -> float:
        return self.now_s

    def now_us(self) -> int:
        return round(self.now_s * 1e6)

    def sleep(self, seconds: float) -> None:
        self.wait(seconds)

    def executor(self, name: str) -> Executor:  # noqa: ARG002 - its tasks are told by their process
        return Executor(self, self.process)

    def event(self) -> Flag:
        return Flag(self)

    def watchdog(
        self,
        is_live: Callable[[], bool],  # noqa: ARG002 - a loop that is stuck shows in the schedule
        interval_s: float,  # noqa: ARG002
    ) -> AbstractContextManager[object]:
        return nullcontext()

    def spawn(self, process: Process, work: Callable[[], object]) -> None:
        self.tasks.append(Task(self, process, work))

    def wait(self, longest_s: float = 0.0, condition: Callable[[], object] | None = None) -> None:
        """Let others run until the condition is true or the time is over."""
        task = self._current
        if task is None:
            raise RuntimeError("only a task can wait")
        if task.process.is_dead:
            raise Killed
        task.wake_s, task.condition = self.now_s + longest_s, condition
        task.give_way()
        if task.process.is_dead:
            raise Killed

    def step(self) -> None:
        """Let one task run, and advance the time to when one can."""
        self.steps += 1
        able = [task for task in self.tasks if self._is_able(task)]
        if not able:
            wake_s = [max(t.wake_s, t.process.frozen_until_s) for t in self.tasks]
            self.now_s = max(self.now_s + STEP_S, min(wake_s, default=0.0))
            return
        self.now_s += STEP_S
        task = self.random.choice(able)
        self._current = task
        task.resume()
        self._current = None
        if task.is_done:
            self.tasks.remove(task)

    def _is_able(self, task: Task) -> bool:
        if task.process.is_dead:
            return True
        if task.process.frozen_until_s > self.now_s:
            return False
        return task.wake_s <= self.now_s or bool(task.condition and task.condition())

    def kill(self, process: Process) -> None:
        """End a process at its current step."""
        process.is_dead = True
        for task in [task for task in self.tasks if task.process is process]:
            self._current = task
            while not task.is_done:
                task.resume()
            self._current = None
            self.tasks.remove(task)


class SimulatedFuture(Future[Any]):
    """A future that is waited for in the world's time."""

    world: World

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.world.wait(1e9 if timeout is None else timeout, self.done)
        if not self.done():
            raise TimeoutError
        return super().result(0)


class Executor:
    """Runs what is submitted in a task of the same process."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def submit(self, work: Callable[..., Any], /, *arguments: Any) -> SimulatedFuture:
        future = SimulatedFuture()
        future.world = self._world

        def run() -> None:
            try:
                future.set_result(work(*arguments))
            except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
                future.set_exception(error)

        self._world.spawn(self._process, run)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Its tasks end with the process."""


class Flag:
    """An event that is waited for in the world's time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def wait(self, timeout: float) -> bool:
        self._world.wait(timeout, lambda: self._is_set)
        return self._is_set
