"""A real schema registry: Apicurio, from Maven Central, which has Confluent's API; in memory."""

from __future__ import annotations

import shutil
import subprocess
import time
import urllib.error
import urllib.request
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.kafka.broker import die_with_parent, free_port
from tests.kafka.jars import registry_jar

if TYPE_CHECKING:
    from pathlib import Path

API = "/apis/ccompat/v7"
START_TIMEOUT_S = 120
JAVA_OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


class SchemaRegistry:
    """A registry in a process of its own, or, with an address, one that another process has."""

    def __init__(self, folder: Path, address: str | None = None) -> None:
        self.address = address or f"127.0.0.1:{free_port()}"
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "registry.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return url_at(self.address)

    def start(self) -> None:
        host, port = self.address.split(":")
        where = [f"-Dquarkus.http.host={host}", f"-Dquarkus.http.port={port}"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *JAVA_OPTIONS, *where, "-jar", str(registry_jar())],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://{self.address}{API}/subjects", timeout=5):
                    return
            except (OSError, urllib.error.HTTPError):
                time.sleep(0.1)
        tail = self._log.read_text(errors="replace")[-4000:]
        self.kill()
        raise RuntimeError(f"the schema registry didn't start:\n{tail}")

    @cached_property
    def client(self) -> SchemaRegistryClient:
        """Confluent's own client."""
        return SchemaRegistryClient({"url": self.url})

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.client:
            self.kill()


def url_at(address: str) -> str:
    return f"http://{address}{API}"


def environment(url: str, **settings: str) -> dict[str, Any]:
    """What `run` needs to read a topic with schemas."""
    named = {f"STEPSTREAM_INPUT__{name.upper()}": value for name, value in settings.items()}
    return {"STEPSTREAM_REGISTRY__URL": url, **named}


def missing_registry() -> str | None:
    """A program that the registry needs and that is missing."""
    return next((tool for tool in ("java", "mvn") if shutil.which(tool) is None), None)
