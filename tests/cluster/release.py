"""The chart, installed with Helm: the agent, and the gateway Collector that sends to the tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster.cluster import Cluster
from tests.testlib.containers.image import AGENT_IMAGE
from tests.testlib.repository import REPOSITORY

CHART: Final = REPOSITORY / "deploy/kubernetes/chart"
NAMESPACE: Final = "otel-oom"
NAME: Final = "otel-oom"
ACCOUNT: Final = f"system:serviceaccount:{NAMESPACE}:{NAME}"
AGENT: Final = "app.kubernetes.io/component=agent"
GATEWAY_IMAGE: Final = ("localhost/otel-oom-test-collector", "1")
_LIMIT: Final = "--timeout=5m"


@dataclass(frozen=True)
class Release:
    """An installed chart."""

    cluster: Cluster
    helm: Path
    backend: str
    """The endpoint of the tests' backend."""

    def install(self) -> None:
        """Install it, and wait until agent and gateway are ready."""
        self._helm("install", NAME, str(CHART), *self._values(), "--wait", _LIMIT)

    def upgrade(self, *, pod_events: bool = True, **settings: str) -> None:
        """Upgrade it with further values, and wait until the new pods are ready."""
        sets = (f"--set-string={key}={value}" for key, value in settings.items())
        values = self._values(pod_events=pod_events)
        self._helm("upgrade", NAME, str(CHART), *values, *sets, "--wait", _LIMIT)

    def restart(self) -> None:
        """Restart the agent as `kubectl rollout restart` does; wait until it is ready."""
        daemons = f"daemonset/{NAME}"
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "restart", daemons)
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", daemons, _LIMIT)

    def uninstall(self) -> None:
        """Uninstall it, and wait until its objects are gone."""
        self._helm("uninstall", NAME, "--wait", _LIMIT)

    def log_text(self) -> str:
        """Return the log of the agent."""
        return self.cluster.kubectl("-n", NAMESPACE, "logs", "-l", AGENT, "--tail=-1")

    def _helm(self, *words: str) -> str:
        return self.cluster.run(self.helm, "--namespace", NAMESPACE, *words, within_s=400.0)

    def _values(self, *, pod_events: bool = True) -> tuple[str, str]:
        agent, gateway = (
            {"repository": name, "tag": tag, "pullPolicy": "Never"}
            for name, tag in (AGENT_IMAGE.split(":"), GATEWAY_IMAGE)
        )
        backend = {"endpoint": self.backend}
        values = {
            "image": agent,
            "podEvents": {"enabled": pod_events},
            # A kubelet that has just started delays a first probe by up to the whole period.
            "probes": {"readiness": {"periodSeconds": 2}},
            "gateway": {"enabled": True, "image": gateway, "backend": backend},
        }
        file = self.cluster.folder.path / "values.json"
        file.write_text(json.dumps(values), encoding="ascii")  # JSON is YAML
        return ("--values", str(file))
