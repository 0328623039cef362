"""Processes of ``stepstream serve``."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.conftest import ROOT
from tests.kafka.broker import die_with_parent, free_port
from tests.kafka.builders import wait_until
from tests.web.builders import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON = {"content-type": "application/json"}


class Serving(NamedTuple):
    """A process, and where it listens."""

    port: int
    process: subprocess.Popen[str]

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """GET, or POST of JSON if there is a body."""
        connection = self.connect()
        try:
            return ask_again(connection, path, body, **headers)
        finally:
            connection.close()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, "it has ended"
        try:
            return self.ask("/readyz").status == 200
        except OSError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


def ask_again(
    connection: http.client.HTTPConnection, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    """Ask over a connection, which stays open."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    method = "GET" if body is None else "POST"
    connection.request(method, path, body, {**(JSON if body else {}), **given})
    answer = connection.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, named, answer.read())


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[Serving]:
    """Start a process, and wait until it is ready; what it logs can be read once it has ended."""
    port = free_port()
    address = ["--http.address", "127.0.0.1", "--http.port", str(port)]
    with subprocess.Popen(
        [sys.executable, "-m", "stepstream", "serve", *address, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
    ) as process:
        started = Serving(port, process)
        try:
            wait_until("a server", started.is_ready, 30)
            yield started
        finally:
            if process.poll() is None:
                process.kill()


def metrics(text: bytes, name: str) -> dict[str, float]:
    """Values of a metric by what stands between its braces."""
    found: dict[str, Any] = {}
    for line in text.decode().splitlines():
        if line.partition("{")[0].partition(" ")[0] == name:
            labels, _, value = line.removeprefix(name).rpartition(" ")
            found[labels] = float(value)
    return found
