"""KEDA's operator and metrics server as processes beside a control plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.kafka.broker import free_port

if TYPE_CHECKING:
    from tests.helm.control_plane import ControlPlane

NAMESPACE = "keda"
SERVICE = "keda-metrics-apiserver"


def start_keda(cluster: ControlPlane) -> None:
    """Start both, and have the API server ask them for external metrics."""
    cluster.define("keda-crd")
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    certificates = cluster.folder / "keda"
    cluster.certificate(certificates, "localhost", "127.0.0.1", f"{SERVICE}.{NAMESPACE}.svc")
    (certificates / "ca.crt").write_bytes(cluster.authorities.read_bytes())
    values, served = f"127.0.0.1:{free_port()}", free_port()
    cluster.run(
        "keda-operator",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        f"--metrics-service-bind-address={values}",
        f"--cert-dir={certificates}",
        f"--ca-dir={certificates}",
        WATCH_NAMESPACE="",
        POD_NAME="keda-operator",
        POD_NAMESPACE=NAMESPACE,
        KEDA_CLUSTER_OBJECT_NAMESPACE=NAMESPACE,
    )
    cluster.run(
        "keda-adapter",
        "--bind-address=127.0.0.1",
        f"--secure-port={served}",
        f"--tls-cert-file={certificates}/tls.crt",
        f"--tls-private-key-file={certificates}/tls.key",
        f"--client-ca-file={cluster.authorities}",
        f"--cert-dir={certificates}",
        f"--metrics-service-address={values}",
        f"--port={free_port()}",
        f"--lister-kubeconfig={cluster.kubeconfig}",
        f"--authentication-kubeconfig={cluster.kubeconfig}",
        f"--authorization-kubeconfig={cluster.kubeconfig}",
        WATCH_NAMESPACE="",
        POD_NAMESPACE=NAMESPACE,
    )
    place = {"name": SERVICE, "namespace": NAMESPACE}
    cluster.api.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": place,
            "spec": {
                "type": "ExternalName",
                "externalName": "localhost",
                "ports": [{"port": served}],
            },
        }
    )
    cluster.api.apply(
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.external.metrics.k8s.io"},
            "spec": {
                "group": "external.metrics.k8s.io",
                "version": "v1beta1",
                "groupPriorityMinimum": 100,
                "versionPriority": 100,
                "insecureSkipTLSVerify": True,
                "service": {**place, "port": served},
            },
        }
    )
    cluster.wait(
        "KEDA's metrics",
        lambda: cluster.api.get("apis/external.metrics.k8s.io/v1beta1"),
        "keda-operator",
        "keda-adapter",
    )
