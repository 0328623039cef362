"""A process that serves a consumer, or the parent of two, until its standard input ends.

``python -m tests.web.served [--workers] [--token TOKEN] [--certificate FOLDER]`` prints the port.
There is no broker.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stepstream.detection import Model, default_model_path
from tests.conftest import ROOT
from tests.web.builders import consumer_without_broker, own, serve, settings, turning
from tests.web.served_workers import served_workers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Served(NamedTuple):
    """A process, and where it listens."""

    port: int
    process: subprocess.Popen[str]


@contextmanager
def served(*arguments: str) -> Iterator[Served]:
    """Start a process; what it logs goes to where the test's output goes."""
    command = [sys.executable, "-m", "tests.web.served", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Served(int(process.stdout.readline()), process)
        finally:
            process.stdin.close()


def tls_settings(folder: Path | None) -> dict[str, Any]:
    """Settings of a server whose certificate and key are in a folder."""
    return {} if folder is None else {"tls_cert": folder / "tls.crt", "tls_key": folder / "tls.key"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--token")
    parser.add_argument("--certificate", type=Path)
    given = parser.parse_args()
    made_with = settings(token=given.token, **tls_settings(given.certificate))
    with ExitStack() as stack:
        if given.workers:
            server = stack.enter_context(served_workers(made_with)).server
        else:
            model = Model(default_model_path())
            consumer = stack.enter_context(consumer_without_broker(made_with, model))
            for number in range(4):
                own(consumer, number)
            consumer.membership.note_assigned()
            stack.enter_context(turning(consumer, devices=3))
            server = stack.enter_context(serve(made_with, consumer))
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
