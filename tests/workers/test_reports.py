from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stepstream.settings import HttpSettings, KafkaSettings, Settings
from stepstream.workers.lifeline import MAX_TEXT, Lifeline
from stepstream.workers.processes import WorkerProcess
from stepstream.workers.reports import (
    MAX_PACKET_BYTES,
    Order,
    Report,
    make_channel,
    receive_order,
    send_order,
)
from tests.kafka.builders import wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

CHILD = """
import socket, threading
from stepstream.workers.lifeline import Lifeline
from stepstream.workers.reports import Report
line = Lifeline(socket.socket(fileno=0), 0.2)
line.connect(lambda: Report(True), lambda: print("stop", flush=True))
with line:
    threading.Event().wait(60)
"""


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = make_channel()
    with closing(ours), closing(theirs):
        yield ours, theirs


def test_settings_arrive_with_their_secrets_and_with_what_was_set(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    settings = Settings(
        kafka=KafkaSettings(sasl_password="hunter2", properties={"ssl.ca.pem": "x" * 100_000}),  # noqa: S106
        http=HttpSettings(port=9),
    )
    ours, theirs = channel
    send_order(ours, Order(3, settings, Path("/run/a.sock")))
    order = receive_order(theirs)
    assert order == Order(3, settings, Path("/run/a.sock"))
    assert isinstance(order.settings, Settings)
    assert order.settings.kafka.sasl_password is not None
    assert order.settings.kafka.sasl_password.get_secret_value() == "hunter2"
    assert order.settings.http.model_fields_set == {"port"}


def test_a_parent_that_ends_before_its_order_is_noticed(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = channel
    ours.close()
    with pytest.raises(EOFError):
        receive_order(theirs)


def test_a_report_fits_a_packet_and_is_lost_rather_than_waited_for(
    channel: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = channel
    line = Lifeline(theirs, 1.0)
    theirs.settimeout(0.01)
    for _ in range(100):
        line.report(Report(is_live=True, obstacles=["x" * 10_000] * 100, error="y" * 10_000))
    packet = ours.recv(MAX_PACKET_BYTES)
    assert len(packet) < 22 * MAX_TEXT


def test_a_worker_stops_when_its_parent_has_ended_and_ends_if_it_cannot() -> None:
    ours, theirs = make_channel()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    ours.setblocking(True)
    assert ours.recv(MAX_PACKET_BYTES)
    ours.close()
    assert child.communicate(timeout=20)[0] == "stop\n"
    assert child.returncode == 1


def test_a_worker_that_cannot_start_says_why_in_its_last_report() -> None:
    settings = Settings(kafka=KafkaSettings(properties={"no.such.property": 1}))
    lock = os.open("lock", os.O_CREAT)
    process = WorkerProcess(Order(0, settings, None), lock)
    said: list[Report] = []

    def has_ended() -> bool:
        said.extend(process.reports())
        return process.exit_code() is not None

    wait_until("the end of the worker", has_ended)
    said.extend(process.reports())
    process.close()
    os.close(lock)
    assert process.exit_code() == 1
    assert "no.such.property" in said[-1].error
    command = Path("/proc/self/cmdline").read_bytes()
    assert b"no.such.property" not in command
