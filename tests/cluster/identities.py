"""Certificates and client configurations of a cluster's components."""

from __future__ import annotations

import json
from typing import Final

from tests.cluster import plan
from tests.cluster.plan import ClusterFolder
from tests.testlib.servers.tls import Authority, Identity

_SERVER_NAMES: Final = (
    f"IP:{plan.NODE_ADDRESS},IP:127.0.0.1,IP:{plan.API_SERVICE},"
    f"DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.{plan.DOMAIN}"
)
_CLIENTS: Final = {
    "admin": "/O=system:masters/CN=admin",
    "controllers": "/CN=system:kube-controller-manager",
    "proxy": "/CN=system:kube-proxy",
    "scheduler": "/CN=system:kube-scheduler",
    "kubelet": f"/O=system:nodes/CN=system:node:{plan.NODE}",
}
"""Subjects by which the API server knows users and groups."""


def write_identities(folder: ClusterFolder) -> None:
    """Make an authority, the certificates that it issues, and a kubeconfig for each client."""
    authority = Authority(folder.certificates)
    authority.issue("apiserver", _SERVER_NAMES)
    authority.issue("apiserver-to-kubelet", subject="/O=system:masters/CN=apiserver")
    authority.issue("service-accounts")
    for user, subject in _CLIENTS.items():
        client = authority.issue(user, subject=subject)
        content = _kubeconfig(user, client, str(authority.certificate))
        folder.kubeconfig(user).write_text(json.dumps(content), encoding="ascii")  # JSON is YAML


def _kubeconfig(user: str, client: Identity, authority: str) -> dict[str, object]:
    files = {"client-certificate": str(client.certificate), "client-key": str(client.key)}
    server = {"server": plan.API_URL, "certificate-authority": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": server}],
        "users": [{"name": user, "user": files}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        "current-context": "test",
    }
