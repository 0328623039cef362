"""A real Kubernetes control plane on this machine, with nodes that run no containers.

etcd, API server, controller manager, scheduler and kwok, which plays the kubelets: pods are
scheduled and become ready, but nothing runs in them. Network policies are accepted, not enforced.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trustme
import yaml

from tests.helm.tools import find_crds, find_tool
from tests.kafka.broker import die_with_parent, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

START_TIMEOUT_S = 90
REQUEST_TIMEOUT_S = 30
TOKEN = "a-token-of-this-run"  # noqa: S105 - on loopback, for one run
STAGES = Path(__file__).with_name("stages.yaml")
ZONES = ("a", "b", "c")
PATHS = {
    "Namespace": "api/v1/namespaces",
    "Node": "api/v1/nodes",
    "CustomResourceDefinition": "apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "APIService": "apis/apiregistration.k8s.io/v1/apiservices",
}
"""Where the API has kinds that lie in no namespace."""


class _Loader(yaml.SafeLoader):
    """Takes "=" for a string, as Kubernetes does; in YAML 1.1 it is a mapping's default value."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


class ApiError(Exception):
    """The API server refused something."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status


class Api:
    """What the tests ask of an API server, as its administrator."""

    def __init__(self, address: str, authorities: Path) -> None:
        self._address = address
        self._context = ssl.create_default_context(cafile=str(authorities))
        self._resources: dict[str, dict[str, str]] = {}

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
    ) -> Any:
        """An answer, as JSON; ``ApiError`` if it is a refusal."""
        request = urllib.request.Request(  # noqa: S310 - the address is one of ours
            f"{self._address}/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": content_type},
        )
        try:
            with urllib.request.urlopen(  # noqa: S310 - the same
                request, timeout=REQUEST_TIMEOUT_S, context=self._context
            ) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(error.code, error.read().decode()) from None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def list(self, path: str, selector: str = "") -> list[dict[str, Any]]:
        query = f"?labelSelector={selector}" if selector else ""
        return list(self.get(path + query)["items"])

    def patch(self, path: str, body: object) -> Any:
        return self.call("PATCH", path, body, "application/merge-patch+json")

    def apply(self, document: Mapping[str, Any], *, dry_run: bool = False) -> Any:
        """Create or change an object, server-side; a field that it doesn't have is an error."""
        path = self.path_of(document)
        query = "fieldManager=tests&force=true&fieldValidation=Strict"
        query += "&dryRun=All" if dry_run else ""
        return self.call("PATCH", f"{path}?{query}", document, "application/apply-patch+yaml")

    def path_of(self, document: Mapping[str, Any]) -> str:
        metadata = document["metadata"]
        if document["kind"] in PATHS:
            return f"{PATHS[document['kind']]}/{metadata['name']}"
        version = document["apiVersion"]
        root = f"apis/{version}" if "/" in version else f"api/{version}"
        if version not in self._resources:
            found = self.get(root)["resources"]
            self._resources[version] = {r["kind"]: r["name"] for r in found if "/" not in r["name"]}
        plural = self._resources[version][document["kind"]]
        return (
            f"{root}/namespaces/{metadata.get('namespace', 'default')}/{plural}/{metadata['name']}"
        )


class ControlPlane:
    """Started once a run; everything in one folder, on free ports of loopback."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubeconfig = folder / "kubeconfig"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._described: dict[str, Any] = {}
        self.authority = trustme.CA()
        folder.mkdir(parents=True, exist_ok=True)
        # One authority for everything, also for servers that the API server passes requests on to.
        self.authorities = folder / "ca.crt"
        self.authority.cert_pem.write_to_path(self.authorities)
        self.certificate(folder, "localhost", "127.0.0.1", "kubernetes.default.svc")
        self._write_signing_key()

    def certificate(self, folder: Path, *names: str, common_name: str | None = None) -> None:
        """A certificate and its key, ``tls.crt`` and ``tls.key`` in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        issued = self.authority.issue_cert(*names, common_name=common_name)
        issued.private_key_pem.write_to_path(folder / "tls.key")
        (folder / "tls.crt").write_bytes(b"".join(p.bytes() for p in issued.cert_chain_pems))

    def _write_signing_key(self) -> None:
        key = trustme.CA(key_type=trustme.KeyType.RSA).private_key_pem
        key.write_to_path(self.folder / "accounts.key")

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End everything, the last program first, without waiting for any of them."""
        for process in reversed(self._processes.values()):
            process.kill()
        for process in self._processes.values():
            process.wait()

    def run(self, name: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a program that lives as long as the control plane, its output in the folder."""
        tool = find_tool(name)
        assert tool is not None, name
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [tool, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig), **environment},
                preexec_fn=die_with_parent,  # noqa: PLW1509 - it calls the kernel only
            )
        self._processes[name] = process
        return process

    def wait(self, what: str, condition: Callable[[], Any], *names: str) -> Any:
        """The first true result; a refusal or no answer is not one yet."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        last: object = None
        while time.monotonic() < deadline_s and self._all_run():
            try:
                last = condition()
            except (ApiError, OSError) as error:
                last = error
            else:
                if last:
                    return last
            time.sleep(0.05)
        ended = {name for name, process in self._processes.items() if process.poll() is not None}
        tails = "\n".join(f"{name}:\n{self._log_of(name)[-2000:]}" for name in {*names, *ended})
        raise RuntimeError(f"{what}: {last}\n{tails}")

    def check(self) -> None:
        """Raise if one of its programs has ended."""
        if not self._all_run():
            self.wait("all programs", lambda: False)

    def _all_run(self) -> bool:
        return all(process.poll() is None for process in self._processes.values())

    def _log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _start(self) -> None:
        folder = self.folder
        clients, peers = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.run("etcd", "--data-dir=etcd", f"--listen-client-urls={clients}",
                 f"--advertise-client-urls={clients}", f"--listen-peer-urls={peers}",
                 f"--initial-advertise-peer-urls={peers}", f"--initial-cluster=default={peers}",
                 "--unsafe-no-fsync")  # fmt: skip
        (folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self.certificate(folder / "front-proxy", "front-proxy", common_name="front-proxy")
        port = free_port()
        address = f"https://127.0.0.1:{port}"
        self._write_kubeconfig(address)
        self.api = Api(address, self.authorities)
        self.run(
            "kube-apiserver",
            f"--etcd-servers={clients}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={port}",
            "--tls-cert-file=tls.crt",
            "--tls-private-key-file=tls.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--endpoint-reconciler-type=none",
            f"--requestheader-client-ca-file={self.authorities}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-username-headers=X-Remote-User",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--proxy-client-cert-file=front-proxy/tls.crt",
            "--proxy-client-key-file=front-proxy/tls.key",
        )
        self.wait("the API server", lambda: self.api.get("readyz") == "ok", "kube-apiserver")
        common = [
            f"--kubeconfig={self.kubeconfig}",
            f"--authentication-kubeconfig={self.kubeconfig}",
            f"--authorization-kubeconfig={self.kubeconfig}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--cert-dir=certificates",
        ]
        self.run(
            "kube-controller-manager",
            *common,
            f"--secure-port={free_port()}",
            "--service-account-private-key-file=accounts.key",
            f"--root-ca-file={self.authorities}",
            "--use-service-account-credentials=false",
            "--horizontal-pod-autoscaler-sync-period=5s",
        )
        self.run("kube-scheduler", *common, f"--secure-port={free_port()}")
        self.run(
            "kwok",
            f"--kubeconfig={self.kubeconfig}",
            f"--config={STAGES}",
            "--manage-all-nodes",
            "--node-lease-duration-seconds=40",
            "--cidr=10.244.0.0/16",
            "--node-ip=127.0.0.1",
        )
        for zone in ZONES:
            self.api.call("POST", PATHS["Node"], _node(zone))
        self.wait(
            "service accounts",
            lambda: self.api.get("api/v1/namespaces/default/serviceaccounts/default"),
            "kube-controller-manager",
        )
        self.wait("nodes", self._nodes_are_ready, "kwok")

    def _nodes_are_ready(self) -> bool:
        return all(
            any(
                c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"]
            )
            for node in self.api.list(PATHS["Node"])
        )

    def _write_kubeconfig(self, address: str) -> None:
        authority = base64.b64encode(self.authorities.read_bytes()).decode()
        cluster = {"server": address, "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
            "current-context": "test",
        }
        self.kubeconfig.write_text(json.dumps(config))

    def define(self, *names: str) -> None:
        """Make the API server know custom resources."""
        kinds = []
        for file in (file for name in names for file in find_crds(name)):
            if "scaledjobs" in file.name:
                document = _undescribed(file)
            else:
                document = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # noqa: S506
            kinds.append(self.api.path_of(document))
            self.api.call("POST", PATHS[document["kind"]], document)
        self.wait("custom resources", lambda: all(map(self._is_established, kinds)))

    def _is_established(self, path: str) -> bool:
        conditions = self.api.get(path).get("status", {}).get("conditions", [])
        return any((c["type"], c["status"]) == ("Established", "True") for c in conditions)

    def write_schemas(self, folder: Path, documents: Iterable[Mapping[str, Any]]) -> str:
        """JSON schemas of kinds as the API server describes them, for kubeconform.

        Returns where they are, as kubeconform is told.
        """
        for kind, version in {(d["kind"], d["apiVersion"]) for d in documents}:
            name, components = self.wait(
                f"a description of {kind}", partial(self._describe, kind, version)
            )
            group, _, number = version.rpartition("/")
            schema = {"$ref": f"#/components/schemas/{name}", "components": _strict(components)}
            file = "-".join([kind, *([group.split(".")[0]] if group else []), number]).lower()
            (folder / f"{file}.json").write_text(json.dumps(schema))
        return f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"

    def _describe(self, kind: str, version: str) -> tuple[str, Any] | None:
        """The name of a kind's schema among those of its version; new ones come a moment later."""
        path = f"apis/{version}" if "/" in version else f"api/{version}"
        components = (
            self._described.pop(path, None) or self.api.get(f"openapi/v3/{path}")["components"]
        )
        group, _, number = version.rpartition("/")
        described = {"group": group, "kind": kind, "version": number}
        for name, schema in components["schemas"].items():
            if described in schema.get("x-kubernetes-group-version-kind", []):
                self._described[path] = components
                return name, components
        return None

    def helm(self, *command: str) -> str:
        """The output of helm; if it fails, the error has its message."""
        tool = find_tool("helm")
        assert tool is not None
        done = subprocess.run(
            [tool, *command, f"--kubeconfig={self.kubeconfig}"],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "HELM_CACHE_HOME": str(self.folder / "helm")},
        )
        assert done.returncode == 0, f"helm {' '.join(command)}: {done.stderr}"
        return done.stdout


def _undescribed(file: Path) -> Any:
    """A resource that must exist, of any shape, in place of 670 kB that nothing here uses."""
    group, _, plural = file.stem.partition("_")
    names = {"plural": plural, "singular": plural[:-1], "kind": "ScaledJob"}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1", "served": True, "storage": True, "subresources": {"status": {}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": names,
            "scope": "Namespaced",
            "versions": [{**version, "schema": {"openAPIV3Schema": anything}}],
        },
    }


def _strict(schema: Any) -> Any:
    """A schema that allows no other properties than those it lists."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {name: _strict(part) for name, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        strict.pop("type", None)
        strict.pop("format", None)
    lists_all = isinstance(schema.get("properties"), dict) and "type" in schema
    if lists_all and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict.setdefault("additionalProperties", False)
    return strict


def _node(zone: str) -> dict[str, Any]:
    size = {"cpu": "32", "memory": "256Gi", "pods": "110"}
    labels = {
        "kubernetes.io/hostname": f"node-{zone}",
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": zone,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{zone}", "labels": labels},
        "status": {"allocatable": size, "capacity": size},
    }
