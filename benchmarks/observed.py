"""What the HTTP port costs a consumer.

Either its page is open and its metrics are scraped every second, or ten requests for steps come in
a second.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections import defaultdict
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from itertools import cycle
from statistics import median
from threading import Event, Thread
from typing import TYPE_CHECKING

from benchmarks.harness import running_broker
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.serving import request_bodies
from benchmarks.systems import STEPSTREAM
from tests.kafka.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEVICES = 1_000
DEVICE = "device-3-0"
ALONE, WATCHED, ASKED = "alone", "watched", "asked"
ASK_EVERY_S = 0.1


class Clients:
    """A scraper and a browser with a device's signal on its page, or one that asks for steps."""

    def __init__(self, port: int, bodies: Iterable[bytes]) -> None:
        self._port = port
        self._stop = Event()
        self._bodies = cycle(bodies)
        self.scrapes = self.samples = self.signals = self.answers = 0

    @contextmanager
    def _get(self, path: str) -> Iterator[HTTPResponse]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
            yield connection.getresponse()
        finally:
            connection.close()

    def _scrape(self) -> None:
        begin_s = time.monotonic()
        with self._get("/metrics") as answer:
            gzip.decompress(answer.read())
        self.scrapes += 1
        self._stop.wait(begin_s + 1 - time.monotonic())

    def _watch(self) -> None:
        with self._get(f"/performance/stream?device={DEVICE}") as stream:
            for line in stream:
                self.samples += line.startswith(b"event: sample")
                self.signals += line.startswith(b"event: signal")
                if self._stop.is_set():
                    break

    def _ask(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        headers = {"Content-Type": "application/json"}
        next_s = time.monotonic()
        try:
            while not self._stop.wait(next_s - time.monotonic()):
                next_s += ASK_EVERY_S
                connection.request("POST", "/v1/detect", next(self._bodies), headers)
                answer = connection.getresponse()
                answer.read()
                self.answers += answer.status == HTTPStatus.OK
        finally:
            connection.close()

    @contextmanager
    def at_work(self, what: str) -> Iterator[None]:
        def repeat(what: Callable[[], None]) -> None:
            while not self._stop.is_set():
                try:
                    what()
                except (OSError, HTTPException):  # the server doesn't exist yet, or no longer
                    self._stop.wait(0.05)

        works = {ALONE: (), WATCHED: (self._scrape, self._watch), ASKED: (self._ask,)}[what]
        threads = [Thread(target=repeat, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=40, help="of each device's readings")
    options = parser.parse_args()
    with running_broker() as bootstrap:
        loaded = load(bootstrap, Fleet(DEVICES, options.seconds))
        readings = loaded.readings
        print(f"{readings:,} single readings; CPU time of the consumer a reading, start included")
        bodies = request_bodies()
        cost_us: dict[str, list[float]] = defaultdict(list)
        for number in range(options.rounds):
            # In turns, so that other work on the machine affects all.
            for what in (ALONE, WATCHED, ASKED) if number % 2 else (ASKED, WATCHED, ALONE):
                port = free_port()
                clients = Clients(port, bodies)
                with clients.at_work(what):
                    run = STEPSTREAM.run(
                        for_one_run(loaded.topics),
                        loaded.messages,
                        STEPSTREAM_HTTP__PORT=str(port),
                    )
                cost_us[what].append(run.cpu_s / readings * 1e6)
                print(
                    f"{what:8} {cost_us[what][-1]:.3f} us, {run.wall_s:.1f} s: "
                    f"{clients.scrapes} scrapes, {clients.samples} samples, "
                    f"{clients.signals} parts of the signal, {clients.answers} answers",
                    flush=True,
                )
    for what in (WATCHED, ASKED):
        ratios = [
            cost / alone - 1 for cost, alone in zip(cost_us[what], cost_us[ALONE], strict=True)
        ]
        print(f"{what}: {median(ratios):+.1%} (median; {min(ratios):+.1%} to {max(ratios):+.1%})")
    print(f"alone varies by {max(cost_us[ALONE]) / min(cost_us[ALONE]) - 1:.1%}")


if __name__ == "__main__":
    main()
