"""docker-compose.yml under podman-compose, with images that are made here under its names.

Grafana's image can't be made here, so that service is left out. Podman maps no range of ports to
one port, so consumers are reached inside the network. It has no timers without systemd, and
Debian's version waits for no health, so `Composed.up` does what `depends_on` says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.conftest import ROOT
from tests.deploy import containers
from tests.kafka.builders import wait_until
from tests.kafka.jars import broker_jars

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = (*containers.TOOLS, "podman-compose", "iptables", "prometheus", "java")
LEFT_OUT = "grafana"
PROJECT = "stepstream-test"
CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
events_logger = "file"
"""
"""Limits that a nested sandbox allows."""

KAFKA = """
FROM {base}
COPY java /opt/java
COPY libs /opt/kafka/libs
COPY start.sh /opt/kafka/start.sh
COPY versions.sh /opt/kafka/bin/kafka-broker-api-versions.sh
ENV PATH=/opt/java/bin:$PATH
CMD ["sh", "/opt/kafka/start.sh"]
"""
# As the official image makes server.properties of its variables.
START = """set -e
env | sed -n 's/^KAFKA_//p' | while IFS='=' read -r name value; do
  echo "$(echo "$name" | tr 'A-Z_' 'a-z.')=$value"
done > /tmp/server.properties
java -cp '/opt/kafka/libs/*' kafka.tools.StorageTool format --ignore-formatted \\
  --cluster-id c3RlcHN0cmVhbS10ZXN0 --config /tmp/server.properties
exec java -Xmx512m -XX:+UseSerialGC -cp '/opt/kafka/libs/*' kafka.Kafka /tmp/server.properties
"""
VERSIONS = """#!/bin/sh
exec java -Xmx128m -XX:TieredStopAtLevel=1 -cp '/opt/kafka/libs/*' \\
  org.apache.kafka.tools.BrokerApiVersionsCommand "$@"
"""
PROMETHEUS = """
FROM {base}
COPY prometheus /bin/prometheus
COPY wget /usr/local/bin/wget
RUN mkdir /prometheus
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""
# What the image's busybox does for the health check.
WGET = """#!/usr/bin/python3
import sys, urllib.request
urllib.request.urlopen(sys.argv[-1], timeout=5)
"""


def missing_tool() -> str | None:
    return next((tool for tool in TOOLS if _which(tool) is None), None)


def _which(tool: str) -> str | None:
    """A program; those of Python packages are beside the interpreter."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(tool, path=os.pathsep.join([beside, os.environ["PATH"]]))


def _bud(folder: Path, text: str, image: str, base: str) -> None:
    (folder / "Containerfile").write_text(text.format(base=base))
    done = subprocess.run(
        ["buildah", "--storage-driver", "overlay", "bud", "--isolation", "chroot", "--pull-never",
         "--format", "docker", "--file", str(folder / "Containerfile"), "--tag", image,
         str(folder)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    shutil.rmtree(folder)


def make_images(folder: Path, base: str, services: dict[str, Any]) -> None:
    """Images under the names that the file has: ours, and stand-ins for two others."""
    containers.build(folder, base)
    containers.podman("tag", containers.IMAGE, services["consumer"]["image"])
    made = folder / "kafka"
    java = Path(shutil.which("java") or "").resolve().parents[1]
    shutil.copytree(java, made / "java", ignore=shutil.ignore_patterns("jmods", "src.zip", "man"))
    shutil.copytree(broker_jars(), made / "libs")
    (made / "start.sh").write_text(START)
    (made / "versions.sh").write_text(VERSIONS)
    (made / "versions.sh").chmod(0o755)
    _bud(made, KAFKA, services["kafka"]["image"], base)
    made = folder / "prometheus"
    made.mkdir()
    shutil.copy(shutil.which("prometheus") or "", made / "prometheus")
    (made / "wget").write_text(WGET)
    (made / "wget").chmod(0o755)
    _bud(made, PROMETHEUS, services["prometheus"]["image"], base)


class Composed:
    """The file's services but `LEFT_OUT`, up until the end of the test."""

    def __init__(self, folder: Path) -> None:
        given = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
        self.services: dict[str, Any] = given["services"]
        del self.services[LEFT_OUT], given["volumes"][LEFT_OUT]
        del self.services["consumer"]["ports"], given["name"]
        # The default, which podman-compose wants to read.
        self.services["consumer"]["deploy"]["mode"] = "replicated"
        self._needs = {
            name: service.pop("depends_on", {}) for name, service in self.services.items()
        }
        for service in self.services.values():
            service.pop("build", None)
            service.get("healthcheck", {}).pop("start_interval", None)  # Debian's podman has none
            mounts = service.get("volumes", [])
            mounts[:] = [f"{ROOT}/{m[2:]}" if m.startswith("./") else m for m in mounts]
        self._file = folder / "compose.yml"
        self._file.write_text(yaml.safe_dump(given))
        conf = folder / "containers.conf"
        conf.write_text(CONF)
        self._environment = {
            **os.environ, "CONTAINERS_CONF": str(conf), "STORAGE_DRIVER": "overlay",
        }  # fmt: skip

    def call(self, *arguments: str, timeout_s: float = 300) -> str:
        """What a command of podman-compose prints."""
        done = subprocess.run(
            [_which("podman-compose") or "", "--project-name", PROJECT, "--file", str(self._file),
             "--profile", "serve", *arguments],
            check=False, capture_output=True, text=True, env=self._environment, timeout=timeout_s,
        )  # fmt: skip
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout + done.stderr

    def up(self, within_s: float) -> None:
        """Start each service when those that it depends on are as far as the file says."""
        started: set[str] = set()
        while started < self._needs.keys():
            due = [
                name for name in self._needs.keys() - started if started >= self._needs[name].keys()
            ]
            for name in due:
                for other, needed in self._needs[name].items():
                    if needed["condition"] == "service_healthy":
                        for container in self.names(other):
                            wait_until(other, partial(self.is_healthy, container), within_s)
                    else:
                        wait_until(
                            f"the end of {other}", partial(self._has_succeeded, other), within_s
                        )
                self.call("up", "--detach", name)
            started |= set(due)

    def down(self) -> None:
        """Remove everything; podman-compose knows those that `--scale` added as orphans only."""
        self.call("down", "--volumes", "--remove-orphans")

    def _has_succeeded(self, service: str) -> bool:
        listed = self.podman(
            "ps", "--all", "--filter", self._label(service), "--format", "{{.Status}}"
        )
        assert "Exited" not in listed or "Exited (0)" in listed, listed
        return "Exited (0)" in listed

    def _label(self, service: str) -> str:
        return f"label=com.docker.compose.service={service}"

    def podman(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            ["podman", *arguments],
            check=check, capture_output=True, text=True, env=self._environment, timeout=120,
        )  # fmt: skip
        return done.stdout

    def names(self, service: str) -> list[str]:
        """The running containers of a service."""
        found = self.podman("ps", "--filter", self._label(service), "--format", "{{.Names}}")
        return sorted(name for name in found.split() if name.startswith(PROJECT))

    def is_healthy(self, name: str) -> bool:
        done = subprocess.run(
            ["podman", "healthcheck", "run", name],
            check=False, capture_output=True, env=self._environment, timeout=60,
        )  # fmt: skip
        return done.returncode == 0

    def ask(self, name: str, url: str) -> str:
        """The body at an address, as a container sees it; nothing if there is no answer."""
        code = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode())"
        return self.podman("exec", name, "python3", "-c", code, check=False)

    def left(self) -> Iterator[str]:
        """Containers, volumes and networks of the project."""
        for command in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
            listed = self.podman(
                *command, "--format", "{{.Name}}" if command[0] != "ps" else "{{.Names}}"
            )
            yield from (line for line in listed.splitlines() if line.startswith(PROJECT))
