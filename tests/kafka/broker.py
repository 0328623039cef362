"""A real Apache Kafka broker: one KRaft node, its jars from Maven Central, its data in a folder."""

from __future__ import annotations

import ctypes
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.kafka.jars import broker_jars

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

START_TIMEOUT_S = 60
PORTS = range(20_000, 32_000)
JAVA_OPTIONS = ["-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


def missing_tool() -> str | None:
    """A program that a broker needs and that is missing."""
    return next((tool for tool in ("java", "mvn") if shutil.which(tool) is None), None)


def free_port() -> int:
    """A port that stays free until it is used: outgoing connections are given higher ones."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - it hides nothing
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def die_with_parent() -> None:
    """Called in a new process: it ends when its parent is killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


@dataclass(frozen=True)
class Access:
    """How a broker is reached, and by whom: by default by everyone, unencrypted.

    Attributes
    ----------
    protocols
        Security protocol of each listener; the controller's comes last.
    properties
        More lines for the broker's settings; they come last, and so go before the others.
    format_options
        What its storage is to hold from the start.
    admin
        Properties of a client that may do everything, at the first listener.
    advertised
        Where clients are told to find a listener, if not where it is.
    java_options
        More options for the broker's Java.
    """

    protocols: Mapping[str, str] = field(
        default_factory=lambda: {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
    )
    properties: str = ""
    format_options: tuple[str, ...] = ()
    admin: Mapping[str, Any] = field(default_factory=dict)
    advertised: Mapping[str, str] = field(default_factory=dict)
    java_options: tuple[str, ...] = ()


class Broker:
    """A broker whose ports and data stay the same when it is stopped and started again."""

    def __init__(self, folder: Path, access: Access | None = None) -> None:
        self.folder = folder
        self.access = access or Access()
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in self.access.protocols}
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "broker.log"
        self._classpath = f"{broker_jars()}/*"
        folder.mkdir(parents=True, exist_ok=True)
        self._properties = folder / "server.properties"
        self._properties.write_text(self._settings())
        self.java("kafka.tools.StorageTool", "format", "--cluster-id", "c3RlcHN0cmVhbS10ZXN0",
                   "--config", str(self._properties), *self.access.format_options)  # fmt: skip

    @property
    def bootstrap(self) -> str:
        return next(iter(self.addresses.values()))

    @property
    def pid(self) -> int:
        """Its process id while it runs."""
        if self._process is None:
            raise RuntimeError("the broker doesn't run")
        return self._process.pid

    def start(self) -> None:
        options = [*JAVA_OPTIONS, *self.access.java_options]
        command = ["java", *options, "-cp", self._classpath, "kafka.Kafka"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, str(self._properties)],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        admin = AdminClient(
            {"bootstrap.servers": self.bootstrap, "log_level": 0, **self.access.admin}
        )
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                admin.list_topics(timeout=1)
            except KafkaException:
                continue
            return
        tail = self._log.read_text(errors="replace")[-4000:]
        self.kill()
        raise RuntimeError(f"the broker didn't start:\n{tail}")

    def stop(self) -> None:
        """End it normally."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """End it as a power failure does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def java(self, *command: str) -> str:
        """Run a program of the broker's jars; what it prints."""
        return subprocess.run(
            ["java", *JAVA_OPTIONS, "-cp", self._classpath, *command],
            check=True,
            cwd=self.folder,
            capture_output=True,
            text=True,
        ).stdout

    def _settings(self) -> str:
        *listeners, controller = [f"{name}://{at}" for name, at in self.addresses.items()]
        told = {**self.addresses, **self.access.advertised}
        advertised = [f"{name}://{told[name]}" for name in self.addresses if name != "CONTROLLER"]
        protocols = ",".join(f"{name}:{kind}" for name, kind in self.access.protocols.items())
        return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{self.addresses["CONTROLLER"]}
listeners={",".join([*listeners, controller])}
advertised.listeners={",".join(advertised)}
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocols}
log.dirs={self.folder / "data"}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
{self.access.properties}
"""
