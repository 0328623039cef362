"""``python -m tests.helm.rolling_upgrade ../before``: from another checkout's chart to this one's.

A release of that chart is upgraded on a real API server, then rolled back. Pods must be replaced
one after the other, the last first, and all but one must be ready at any time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Thread

from tests.conftest import ROOT
from tests.helm.control_plane import ControlPlane
from tests.helm.test_control_plane import Release
from tests.helm.tools import CONTROL_PLANE, CRDS, find_crds, find_tool
from tests.kafka.builders import wait_until

PODS = 3
NAMESPACE = "steps"
LOOK_S = 0.02


class Watch:
    """Looks at the pods of a release again and again: who was replaced, and how few were ready."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._uids = self._look()[0]
        self.replaced: list[str] = []
        self.least_ready = PODS
        self._stop = Event()
        self._failure: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _look(self) -> tuple[dict[str, str], int]:
        pods = self._release.pods()
        ready = self._release.ready(pods)
        return {name: pod["metadata"]["uid"] for name, pod in pods.items()}, len(ready)

    def _run(self) -> None:
        try:
            while not self._stop.wait(LOOK_S):
                uids, ready = self._look()
                self.replaced += [n for n, uid in uids.items() if self._uids.get(n) != uid]
                self._uids |= uids
                self.least_ready = min(self.least_ready, ready)
        except BaseException as error:  # noqa: BLE001 - raised by `end`
            self._failure = error

    def end(self) -> None:
        """Stop looking, and raise what went wrong."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def upgrade(cluster: ControlPlane, before: Path) -> None:
    """The upgrade and the rollback; raises if one is refused or more than a pod is missing."""
    release = Release(cluster, NAMESPACE)

    def install(tree: Path, image: str) -> None:
        values = tree / "tests" / "helm" / "values" / "full.yaml"
        options = (f"--values={values}", f"--set=image.digest=sha256:{image * 64}")
        chart = str(tree / "helm" / "stepstream")
        release.helm("upgrade", chart, "--install", "--create-namespace", *options)

    install(before, "0")
    assert release.ready() == release.names(PODS)
    for what, change in (
        ("upgrade", lambda: install(ROOT, "1")),
        ("rollback", lambda: release.helm("rollback", "1")),
    ):
        begin_s = time.monotonic()
        watch = Watch(release)
        change()
        wait_until("all pods", lambda: release.ready() == release.names(PODS))
        watch.end()
        assert watch.replaced == release.names(PODS)[::-1], watch.replaced
        assert watch.least_ready >= PODS - 1
        sys.stdout.write(
            f"{what}: {', '.join(watch.replaced)} in {time.monotonic() - begin_s:.0f} s, "
            f"{watch.least_ready} of {PODS} ready at any time\n"
        )
        sys.stdout.flush()


def main() -> int:
    """Try it."""
    parser = argparse.ArgumentParser(description="An upgrade from another checkout's chart.")
    parser.add_argument("before", type=Path)
    before = parser.parse_args().before.resolve()
    absent = [name for name in (*CONTROL_PLANE, "helm") if find_tool(name) is None]
    absent += [name for name in CRDS if not find_crds(name)]
    if absent:
        parser.error(f"missing: {', '.join(absent)} (make tools, or set TEST_TOOLS)")
    with (
        tempfile.TemporaryDirectory() as folder,
        ControlPlane(Path(folder) / "control-plane") as cluster,
    ):
        cluster.define(*CRDS)
        upgrade(cluster, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
