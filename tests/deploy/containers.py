"""The image, built and run without a daemon: buildah, podman and runc."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepstream import __version__
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = ("buildah", "podman", "runc", "debootstrap")
BASE = "localhost/stepstream-base"
IMAGE = "localhost/stepstream:test"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
DEBIAN = "bookworm"
NOT_IN_SLIM = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man",
               "usr/share/locale")  # fmt: skip
"""What Debian's own slim images leave out."""
CONFINED = (
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop=all",
    "--security-opt",
    "no-new-privileges",
)
# The host's network, to reach the broker; limits that a nested sandbox allows.
HERE = ("--network", "host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")


def missing_tool() -> str | None:
    return next((tool for tool in TOOLS if shutil.which(tool) is None), None)


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["podman", "--storage-driver", "overlay", "--runtime", "runc", *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True)


def make_base(folder: Path) -> str:
    """Debian with its own Python, as an image; used if no registry of images can be reached."""
    if podman("image", "exists", BASE, check=False).returncode == 0:
        return BASE
    root = folder / "base"
    subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-venv",
         DEBIAN, str(root)],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for name in NOT_IN_SLIM:
        shutil.rmtree(root / name)
    packed = folder / "base.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(packed), "."], check=True)
    podman("import", str(packed), BASE)
    shutil.rmtree(root)
    packed.unlink()
    return BASE


def build(folder: Path, base: str) -> str:
    """The image, from the Dockerfile; packages come from the index of pip on this machine."""
    pip_conf = folder / "pip.conf"
    pip_conf.write_text(f"[global]\ncert = {CERTIFICATES}\n")
    done = subprocess.run(
        ["buildah", "--storage-driver", "overlay", "bud", "--isolation", "chroot",
         "--format", "docker", "--pull-never",
         "--secret", f"id=pip.conf,src={pip_conf}", "--secret", f"id=ca.pem,src={CERTIFICATES}",
         "--build-arg", f"PYTHON_IMAGE={base}", "--build-arg", f"VERSION={__version__}",
         "--build-arg", "REVISION=test", "--tag", IMAGE, str(ROOT)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return IMAGE


def inspect(image: str) -> dict[str, Any]:
    described: list[dict[str, Any]] = json.loads(podman("image", "inspect", image).stdout)
    return described[0]


def run(*arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command of the image, confined, until it ends."""
    return podman("run", "--rm", *HERE, *CONFINED, *options, IMAGE, *arguments, check=False)


@dataclass(frozen=True)
class Container:
    """A container that runs in the background, confined."""

    name: str

    @classmethod
    def start(cls, name: str, environment: dict[str, str]) -> Container:
        variables = [f"--env={key}={value}" for key, value in environment.items()]
        podman("run", "--detach", "--name", name, *HERE, *CONFINED, *variables, IMAGE)
        return cls(name)

    def log(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def is_healthy(self) -> bool:
        return podman("healthcheck", "run", self.name, check=False).returncode == 0

    def stop(self, deadline_s: int) -> int:
        """SIGTERM; its exit code."""
        podman("stop", "--time", str(deadline_s), self.name)
        return int(podman("wait", self.name).stdout)

    def remove(self) -> None:
        podman("rm", "--force", self.name)
