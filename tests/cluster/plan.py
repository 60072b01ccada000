"""Names and addresses of a test cluster, and the files in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

NODE: Final = "node-1"
NODE_ADDRESS: Final = "10.245.0.1"
"""The node's own address, in a network namespace that leads nowhere else."""
POD_RANGE: Final = "10.244.0.0/24"
SERVICE_RANGE: Final = "10.96.0.0/24"
API_SERVICE: Final = "10.96.0.1"
DOMAIN: Final = "cluster.local"

API_PORT: Final = 6443
ETCD_PORT: Final = 2379
ETCD_PEER_PORT: Final = 2380
KUBELET_PORT: Final = 10250
STREAM_PORT: Final = 10010

API_URL: Final = f"https://{NODE_ADDRESS}:{API_PORT}"
ETCD_URL: Final = f"http://127.0.0.1:{ETCD_PORT}"
ETCD_PEER_URL: Final = f"http://127.0.0.1:{ETCD_PEER_PORT}"

STATE_FOLDER: Final = Path("/run/containerd")
ROOT_FOLDER: Final = Path("/var/lib/containerd")
"""Folders of containerd, where production nodes have them."""
NAME_PREFIX: Final = "otel-oom-cluster-"


@dataclass(frozen=True)
class ClusterFolder:
    """The folder of a cluster; its name is that of the cluster's cgroup, too."""

    path: Path

    @property
    def cgroup(self) -> str:
        """Path of the cgroup of all pods."""
        return f"/{self.path.name}"

    @property
    def lock(self) -> Path:
        """Locked while the supervisor lives."""
        return self.path / "lock"

    @property
    def ready(self) -> Path:
        """Present once pods can run."""
        return self.path / "ready"

    @property
    def socket(self) -> Path:
        """Socket of containerd."""
        return self.path / "containerd.sock"

    @property
    def static_pods(self) -> Path:
        """Manifests that the kubelet runs without the API server."""
        return self.path / "static-pods"

    @property
    def certificates(self) -> Path:
        """Keys and certificates of all components."""
        return self.path / "certificates"

    @property
    def logs(self) -> Path:
        """Output of each component."""
        return self.path / "logs"

    def kubeconfig(self, user: str) -> Path:
        """Return the configuration of a client of the API server."""
        return self.path / f"{user}.kubeconfig"
