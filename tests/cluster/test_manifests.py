"""The manifests of all platforms, as a real API server accepts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.cluster import release
from tests.cluster.cluster import Cluster
from tests.testlib.repository import REPOSITORY

_PLATFORMS: Final = yaml.safe_load((release.CHART / "platforms.yaml").read_text(encoding="utf-8"))
_OTHERS_KINDS: Final = {"PodMonitor", "SecurityContextConstraints"}
"""Kinds that Kubernetes itself has not: of Prometheus' operator, and of OpenShift."""
_EVERYTHING: Final = {
    "namespace.create": "true",
    "networkPolicy.enabled": "true",
    "podEvents.enabled": "true",
    "podMonitor.enabled": "true",
    "metrics.prometheus.enabled": "true",
    "gateway.enabled": "true",
    "gateway.networkPolicy.enabled": "true",
    "gateway.backend.endpoint": "http://backend.example:4318",
    "userspaceDaemons": "true",
    "cleanup.state": "true",
    "otlp.headers.authorization": "secret",
}


@pytest.mark.parametrize("platform", _PLATFORMS)
def test_the_api_server_accepts_the_chart(
    cluster: Cluster, helm_binary: Path, platform: str
) -> None:
    """With all that can be switched on; unknown and misspelt fields are refused."""
    sets = [f"--set={key}={value}" for key, value in {**_EVERYTHING, "platform": platform}.items()]
    settings = [f"--namespace={release.NAMESPACE}", f"--kube-version={_version(cluster)}", *sets]
    rendered = cluster.run(helm_binary, "template", release.NAME, release.CHART, *settings)
    _dry_run(cluster, rendered)


def test_the_api_server_accepts_the_plain_manifest(cluster: Cluster) -> None:
    manifest = REPOSITORY / "deploy/kubernetes/otel-oom.yaml"
    _dry_run(cluster, manifest.read_text(encoding="utf-8"))


def _version(cluster: Cluster) -> str:
    return str(json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"])


def _dry_run(cluster: Cluster, rendered: str) -> None:
    documents: list[dict[str, Any]] = [each for each in yaml.safe_load_all(rendered) if each]
    known = [each for each in documents if each["kind"] not in _OTHERS_KINDS]
    assert "DaemonSet" in {each["kind"] for each in known}
    applied = cluster.kubectl(
        *("apply", "--dry-run=server", "--validate=strict", "-f", "-"),
        stdin=yaml.safe_dump_all(known),
    )
    assert len(applied.splitlines()) == len(known)
