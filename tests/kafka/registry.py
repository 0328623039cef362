"""A real schema registry: Apicurio, from Maven Central, which has Confluent's API; in memory."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from confluent_kafka.schema_registry import SchemaRegistryClient

from tests.kafka.broker import ROOT, die_with_parent, free_port

ARTIFACT = "apicurio-registry-app"
VERSION = "2.6.13.Final"
"""The last one that runs on Java 17."""
API = "/apis/ccompat/v7"
START_TIMEOUT_S = 120
JAVA_OPTIONS = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]


def registry_jar() -> Path:
    """The registry's program, fetched once: 142 MB, unpacked 140 MB."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", ROOT / ".cache"))
    folder = cache / f"stepstream-registry-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            artifact = f"io.apicurio:{ARTIFACT}:{VERSION}:tar.gz:all"
            subprocess.run(
                ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}",
                 f"-DoutputDirectory={folder}"],
                check=True,
                cwd=folder,
            )  # fmt: skip
            packed = folder / f"{ARTIFACT}-{VERSION}-all.tar.gz"
            with tarfile.open(packed) as archive:
                archive.extractall(folder / "app", filter="data")
            packed.unlink()
            (folder / "complete").touch()
    return folder / "app" / f"{ARTIFACT}-{VERSION}-runner.jar"


class SchemaRegistry:
    """A registry in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
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
