"""The cost of observation: a consumer's page is open, its metrics are scraped every second."""

from __future__ import annotations

import argparse
import gzip
import time
from contextlib import contextmanager, nullcontext
from http.client import HTTPConnection, HTTPException, HTTPResponse
from statistics import median
from threading import Event, Thread
from typing import TYPE_CHECKING

from benchmarks.harness import running_broker
from benchmarks.inputs import Fleet, for_one_run, load
from benchmarks.systems import STEPSTREAM
from tests.kafka.broker import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEVICES = 1_000
DEVICE = "device-3-0"


class Observers:
    """A scraper and a browser with a device's signal on its page."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = Event()
        self.scrapes = self.samples = self.signals = 0

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

    @contextmanager
    def watching(self) -> Iterator[None]:
        def repeat(what: Callable[[], None]) -> None:
            while not self._stop.is_set():
                try:
                    what()
                except (OSError, HTTPException):  # the server doesn't exist yet, or no longer
                    self._stop.wait(0.05)

        works = (self._scrape, self._watch)
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
        ratios, alone_us = [], []
        for number in range(options.rounds):
            cost_us = {}
            # Alternating, so that other work on the machine affects both.
            for is_observed in (False, True) if number % 2 else (True, False):
                port = free_port()
                observers = Observers(port)
                with observers.watching() if is_observed else nullcontext():
                    run = STEPSTREAM.run(
                        for_one_run(loaded.topics),
                        loaded.messages,
                        STEPSTREAM_HTTP__PORT=str(port),
                    )
                cost_us[is_observed] = run.cpu_s / readings * 1e6
                name = "watched" if is_observed else "alone"
                print(
                    f"{name:8} {cost_us[is_observed]:.3f} us, {run.wall_s:.1f} s: "
                    f"{observers.scrapes} scrapes, {observers.samples} samples, "
                    f"{observers.signals} parts of the signal",
                    flush=True,
                )
            ratios.append(cost_us[True] / cost_us[False] - 1)
            alone_us.append(cost_us[False])
    print(
        f"observation: {median(ratios):+.1%} (median; {min(ratios):+.1%} to {max(ratios):+.1%}); "
        f"alone varies by {max(alone_us) / min(alone_us) - 1:.1%}"
    )


if __name__ == "__main__":
    main()
