"""The chart on a real API server: accepted, installed, upgraded, rolled back, scaled, removed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.conftest import ROOT, missing
from tests.helm.control_plane import ApiError, ControlPlane
from tests.helm.tools import CONTROL_PLANE, CRDS, KUBERNETES, find_crds, find_tool
from tests.kafka.builders import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

CHART = ROOT / "helm" / "stepstream"
VALUES = {path.stem: path for path in (Path(__file__).parent / "values").glob("*.yaml")}
NAME = "steps-stepstream"
SELECTOR = "app.kubernetes.io%2Fname%3Dstepstream,app.kubernetes.io%2Finstance%3Dsteps"
QUICK = ("--set=minReadySeconds=0",)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane that knows the custom resources which the chart uses."""
    absent = [name for name in (*CONTROL_PLANE, "helm", "kubeconform") if find_tool(name) is None]
    absent += [name for name in CRDS if not find_crds(name)]
    if absent:
        what = f"{', '.join(absent)} (make tools, or set TEST_TOOLS to their folder)"
        missing(what)
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as running:
        running.define(*CRDS)
        yield running


@pytest.fixture
def namespace(cluster: ControlPlane, request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own, in which only pods of the strictest kind may run."""
    name: str = request.node.name.split("[")[0].replace("_", "-")[-60:].strip("-")
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": enforce}}
    )
    return name


class Release:
    """What helm and Kubernetes know of the chart in a namespace."""

    def __init__(self, cluster: ControlPlane, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._set = f"apis/apps/v1/namespaces/{namespace}/statefulsets/{NAME}"

    def helm(self, command: str, *options: str) -> str:
        """A helm command on the release that waits for its pods, if no option says otherwise."""
        place = (f"--namespace={self._namespace}", "--wait", "--timeout=60s")
        return self._cluster.helm(command, "steps", *place, *options)

    def install_or_upgrade(self, values: str, *options: str) -> str:
        return self.helm("upgrade", str(CHART), "--install", f"--values={VALUES[values]}", *options)

    def pods(self) -> dict[str, dict[str, Any]]:
        path = f"api/v1/namespaces/{self._namespace}/pods"
        return {p["metadata"]["name"]: p for p in self._cluster.api.list(path, SELECTOR)}

    def ready(self, pods: dict[str, dict[str, Any]] | None = None) -> list[str]:
        """Names of the pods that are ready, among those that are there now or were given."""
        return sorted(
            name
            for name, pod in (self.pods() if pods is None else pods).items()
            if any(
                (c["type"], c["status"]) == ("Ready", "True")
                for c in pod["status"].get("conditions", [])
            )
        )

    def of_set(self) -> Any:
        return self._cluster.api.get(self._set)

    def scale(self, replicas: int) -> None:
        self._cluster.api.patch(f"{self._set}/scale", {"spec": {"replicas": replicas}})

    def config(self) -> Any:
        path = f"api/v1/namespaces/{self._namespace}/configmaps/{NAME}"
        return self._cluster.api.get(path)["data"]

    def names(self, count: int) -> list[str]:
        return [f"{NAME}-{n}" for n in range(count)]


@pytest.mark.parametrize("values", sorted(VALUES))
def test_the_api_server_accepts_all_that_the_chart_renders(
    cluster: ControlPlane, namespace: str, values: str, tmp_path: Path
) -> None:
    place = (f"--namespace={namespace}", f"--kube-version={KUBERNETES}")
    text = cluster.helm("template", "steps", str(CHART), f"--values={VALUES[values]}", *place)
    documents = [document for document in yaml.safe_load_all(text) if document]
    for document in documents:
        document["metadata"]["namespace"] = namespace
        cluster.api.apply(document, dry_run=True)
    # The server's own description of its kinds, which clients that have no server check with.
    schemas = cluster.write_schemas(tmp_path, documents)
    tool = find_tool("kubeconform")
    assert tool is not None
    checked = subprocess.run(
        [tool, "-strict", "-summary", "-output=json", f"-schema-location={schemas}"],
        input=text,
        check=False,
        capture_output=True,
        text=True,
    )
    report = json.loads(checked.stdout)
    assert report["summary"]["valid"] == len(documents), report
    assert checked.returncode == 0


def test_the_api_server_refuses_what_the_chart_must_not_render(
    cluster: ControlPlane, namespace: str
) -> None:
    place = (f"--namespace={namespace}", f"--kube-version={KUBERNETES}")
    text = cluster.helm(
        "template", "steps", str(CHART), f"--values={VALUES['least']}", *place,
        "--show-only=templates/statefulset.yaml",
    )  # fmt: skip
    document = yaml.safe_load(text)
    document["metadata"]["namespace"] = namespace
    spec = document["spec"]["template"]["spec"]
    del spec["serviceAccountName"]
    metadata = {"name": "steps-stepstream-0", "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    account = f"api/v1/namespaces/{namespace}/serviceaccounts/default"
    cluster.wait("the namespace's account", lambda: cluster.api.get(account))
    cluster.api.apply(pod, dry_run=True)
    context = spec["containers"][0].pop("securityContext")
    with pytest.raises(ApiError, match="violates PodSecurity"):
        cluster.api.apply(pod, dry_run=True)
    spec["containers"][0] |= {"securityContext": context, "readinessProb": {}}
    with pytest.raises(ApiError, match="readinessProb"):
        cluster.api.apply(document, dry_run=True)


def test_a_release_is_installed_upgraded_rolled_back_scaled_and_removed(
    cluster: ControlPlane, namespace: str
) -> None:
    release = Release(cluster, namespace)
    release.install_or_upgrade("full")
    assert release.ready() == release.names(3)
    first = release.pods()
    budget = cluster.api.get(f"apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets/{NAME}")
    assert (budget["status"]["expectedPods"], budget["status"]["disruptionsAllowed"]) == (3, 1)
    zones = {pod["spec"]["nodeName"] for pod in first.values()}
    assert len(zones) == len(first)

    release.install_or_upgrade("full", "--set=settings.processing.linger_ms=9")
    assert release.config()["STEPSTREAM_PROCESSING__LINGER_MS"] == "9"
    second = release.pods()
    assert sorted(second) == release.names(3)
    uids = {pod["metadata"]["uid"] for pod in (*first.values(), *second.values())}
    assert len(uids) == 6
    # One after the other, the last first; each is ready for a second before the next one begins.
    began = [second[name]["metadata"]["creationTimestamp"] for name in release.names(3)]
    assert began == sorted(set(began), reverse=True)

    release.helm("rollback", "1")
    assert "STEPSTREAM_PROCESSING__LINGER_MS" not in release.config()
    checksum = "checksum/config"
    for name, pod in release.pods().items():
        before = first[name]["metadata"]["annotations"][checksum]
        assert pod["metadata"]["annotations"][checksum] == before
        assert second[name]["metadata"]["annotations"][checksum] != before

    # An upgrade that never becomes ready stops at its first pod; a rollback repairs it.
    release.install_or_upgrade(
        "full", "--set=nodeSelector.disk=tape", "--set=topicsJob.enabled=false", "--wait=false"
    )
    wait_until("a pod that no node accepts", lambda: release.ready() == release.names(2))
    wait_until(
        "one pod that waits",
        lambda: [pod["status"]["phase"] for pod in release.pods().values()].count("Pending") == 1,
    )
    release.helm("rollback", "3")
    assert release.ready() == release.names(3)

    cluster.helm("test", "steps", f"--namespace={namespace}", "--timeout=60s")

    release.scale(5)
    wait_until("five pods", lambda: release.ready() == release.names(5))
    release.scale(1)
    wait_until("one pod, the first", lambda: list(release.pods()) == release.names(1))

    release.helm("uninstall")
    wait_until("no pods", lambda: not release.pods())
    left = [
        item["metadata"]["name"]
        for path in (
            f"apis/apps/v1/namespaces/{namespace}/statefulsets",
            f"apis/batch/v1/namespaces/{namespace}/jobs",
            f"api/v1/namespaces/{namespace}/services",
            f"api/v1/namespaces/{namespace}/configmaps",
            f"apis/monitoring.coreos.com/v1/namespaces/{namespace}/servicemonitors",
        )
        for item in cluster.api.list(path)
    ]
    assert left == ["kube-root-ca.crt"]


def test_an_upgrade_leaves_the_number_of_consumers_to_the_autoscaler(
    cluster: ControlPlane, namespace: str
) -> None:
    release = Release(cluster, namespace)
    release.install_or_upgrade("hpa", *QUICK)
    scaler = cluster.api.get(
        f"apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers/{NAME}"
    )
    assert scaler["spec"]["scaleTargetRef"]["name"] == NAME
    # There are no metrics here, so the autoscaler only respects its bounds.
    wait_until("as many as the autoscaler wants at least", lambda: len(release.ready()) == 2)
    release.scale(4)
    wait_until("four pods", lambda: len(release.ready()) == 4)
    release.install_or_upgrade("hpa", *QUICK, "--set=settings.processing.linger_ms=9")
    assert release.of_set()["spec"]["replicas"] == 4
    release.helm("uninstall")
