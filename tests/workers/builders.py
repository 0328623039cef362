"""Workers whose processes do what a test says, and a clock that it sets."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from stepstream.workers.reports import Report
from stepstream.workers.supervisor import Phase, Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterator

STUCK_AFTER_S = 60.0
STOP_TIMEOUT_S = 25.0
READY = Report(is_live=True)


class FakeProcess:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended_with: int | None = None
        self.signals: list[int] = []
        self.said: list[Report] = []
        self.is_closed = False

    def exit_code(self) -> int | None:
        return self.ended_with

    def reports(self) -> Iterator[Report]:
        while self.said:
            yield self.said.pop(0)

    def send(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.ended_with = -9

    def close(self) -> None:
        self.is_closed = True


class World:
    """A supervisor of workers whose processes do what a test says."""

    def __init__(self, count: int = 2) -> None:
        self.now_s = 1_000.0
        self.steady: set[int] = set()
        """Workers that say all the time that they are ready."""
        self.processes: dict[int, list[FakeProcess]] = {n: [] for n in range(count)}
        self.supervisor = Supervisor(
            self.launch, count, STUCK_AFTER_S, STOP_TIMEOUT_S, lambda: self.now_s
        )
        self.supervisor.turn()

    def launch(self, number: int) -> FakeProcess:
        process = FakeProcess(100 * number + len(self.processes[number]))
        self.processes[number].append(process)
        return process

    def newest(self, number: int) -> FakeProcess:
        return self.processes[number][-1]

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        for number in self.steady:
            self.newest(number).said.append(READY)
        self.supervisor.turn()

    def say(self, number: int, report: Report = READY) -> None:
        self.newest(number).said.append(report)
        self.supervisor.turn()

    def end(self, number: int, exit_code: int = -9) -> None:
        self.newest(number).ended_with = exit_code
        self.supervisor.turn()

    def phase(self, number: int) -> Phase:
        return self.supervisor.workers[number].phase
