"""Command lines of a cluster's components: containerd, and the parts of Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.cluster import plan
from tests.cluster.plan import ClusterFolder

Command = tuple[str, ...]

_CONTROLLERS: Final = (
    "clusterrole-aggregation-controller",
    "cronjob-controller",
    "daemonset-controller",
    "deployment-controller",
    "endpointslice-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "statefulset-controller",
    "taint-eviction-controller",
)


def containerd(folder: ClusterFolder) -> Command:
    """Return the command of the container runtime."""
    return ("containerd", "--config", str(folder.path / "containerd.toml"))


def etcd(node: Path, folder: ClusterFolder) -> Command:
    """Return the command of the API server's store; its files are never worth an fsync."""
    return (
        *(str(node), "etcd", "--name=test", f"--data-dir={folder.path / 'etcd'}"),
        f"--listen-client-urls={plan.ETCD_URL}",
        f"--advertise-client-urls={plan.ETCD_URL}",
        f"--listen-peer-urls={plan.ETCD_PEER_URL}",
        f"--initial-advertise-peer-urls={plan.ETCD_PEER_URL}",
        f"--initial-cluster=test={plan.ETCD_PEER_URL}",
        *("--unsafe-no-fsync", "--log-level=warn"),
    )


def apiserver(node: Path, folder: ClusterFolder) -> Command:
    """Return the command of the API server."""
    files = folder.certificates
    return (
        *(str(node), "kube-apiserver", f"--etcd-servers={plan.ETCD_URL}"),
        f"--bind-address={plan.NODE_ADDRESS}",
        f"--advertise-address={plan.NODE_ADDRESS}",
        f"--secure-port={plan.API_PORT}",
        f"--service-cluster-ip-range={plan.SERVICE_RANGE}",
        f"--tls-cert-file={files / 'apiserver.pem'}",
        f"--tls-private-key-file={files / 'apiserver.key'}",
        f"--client-ca-file={files / 'authority.pem'}",
        f"--kubelet-client-certificate={files / 'apiserver-to-kubelet.pem'}",
        f"--kubelet-client-key={files / 'apiserver-to-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={files / 'service-accounts.pem'}",
        f"--service-account-signing-key-file={files / 'service-accounts.key'}",
        *("--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"),
        "--allow-privileged=true",
    )


def controllers(node: Path, folder: ClusterFolder) -> Command:
    """Return the command of the controllers."""
    files = folder.certificates
    return (
        *(str(node), "kube-controller-manager"),
        f"--kubeconfig={folder.kubeconfig('controllers')}",
        *("--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false"),
        f"--controllers={','.join(_CONTROLLERS)}",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={files / 'service-accounts.key'}",
        f"--root-ca-file={files / 'authority.pem'}",
    )


def scheduler(node: Path, folder: ClusterFolder) -> Command:
    """Return the command of the scheduler."""
    return (
        *(str(node), "kube-scheduler", f"--kubeconfig={folder.kubeconfig('scheduler')}"),
        *("--bind-address=127.0.0.1", "--secure-port=0", "--leader-elect=false"),
    )


def kubelet(node: Path, folder: ClusterFolder) -> Command:
    """Return the command of the node's agent."""
    return (
        *(str(node), "kubelet", f"--config={folder.path / 'kubelet.json'}"),
        f"--kubeconfig={folder.kubeconfig('kubelet')}",
        *(f"--hostname-override={plan.NODE}", f"--node-ip={plan.NODE_ADDRESS}"),
        f"--cert-dir={folder.path / 'kubelet-certificates'}",
    )


def proxy(node: Path, folder: ClusterFolder) -> Command:
    """Return the command of the proxy, which gives Services their addresses."""
    return (str(node), "kube-proxy", f"--config={folder.path / 'proxy.json'}")
