"""Java programs from Maven Central, each fetched once: ``python -m tests.kafka.jars`` has them all.

It needs no other package, so that they can be fetched while packages are installed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tarfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("pom.xml")
REGISTRY = "apicurio-registry-app"
REGISTRY_VERSION = "2.6.13.Final"
"""The last one that runs on Java 17."""


@contextmanager
def _fetching(name: str) -> Iterator[tuple[Path, bool]]:
    """A folder of the cache, and whether it is still to be filled; others wait meanwhile."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", ROOT / ".cache")) / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_empty = not (folder / "complete").exists()
        yield folder, is_empty
        if is_empty:
            (folder / "complete").touch()


def broker_jars() -> Path:
    """Folder with the broker's jars, fetched once for each version of the pom."""
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    with _fetching(f"stepstream-kafka-{version}") as (folder, is_empty):
        if is_empty:
            subprocess.run(
                ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies",
                 f"-DoutputDirectory={folder / 'libs'}"],
                check=True,
            )  # fmt: skip
    return folder / "libs"


def registry_jar() -> Path:
    """The registry's program: 142 MB, unpacked 140 MB."""
    with _fetching(f"stepstream-registry-{REGISTRY_VERSION}") as (folder, is_empty):
        if is_empty:
            artifact = f"io.apicurio:{REGISTRY}:{REGISTRY_VERSION}:tar.gz:all"
            subprocess.run(
                ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={artifact}",
                 f"-DoutputDirectory={folder}"],
                check=True,
                cwd=folder,
            )  # fmt: skip
            packed = folder / f"{REGISTRY}-{REGISTRY_VERSION}-all.tar.gz"
            with tarfile.open(packed) as archive:
                archive.extractall(folder / "app", filter="data")
            packed.unlink()
    return folder / "app" / f"{REGISTRY}-{REGISTRY_VERSION}-runner.jar"


if __name__ == "__main__":
    broker_jars()
    registry_jar()
