"""What is left of the chart after `helm uninstall`. It comes last: it removes the agent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.cluster import cgroups, release
from tests.cluster.cluster import Cluster
from tests.cluster.release import Release

_RELEASE: Final = f"app.kubernetes.io/instance={release.NAME}"
_OBJECTS: Final = (
    "all,configmaps,secrets,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,"
    "networkpolicies,resourcequotas"
)
_DOCUMENTED: Final = {"lib/otel-oom"}
"""The state, below /var: docs/kubernetes.md."""


def test_uninstall_leaves_only_the_state(cluster: Cluster, release: Release) -> None:
    assert _list_pins(cluster), "the agent had no pins"
    assert _list_processes(cluster), "the agent did not run"
    release.uninstall()
    assert _list_pins(cluster) == []
    assert _list_processes(cluster) == []
    objects = cluster.kubectl("get", _OBJECTS, "-A", "-l", _RELEASE, "--ignore-not-found")
    assert objects == ""
    assert _list_made(cluster) == _DOCUMENTED


def _list_pins(cluster: Cluster) -> list[Path]:
    """Return files and folders of bpffs beside the kernel's own ``maps.debug`` and such."""
    return [each for each in cluster.path("/sys/fs/bpf").rglob("*") if each.suffix != ".debug"]


def _list_made(cluster: Cluster) -> set[str]:
    """Return what pods of the release have made below /var, without the contents of folders."""
    made = cluster.path(str(cluster.folder.path / "var/upper"))
    found = {path.relative_to(made) for path in made.rglob("*otel-oom*")}
    return {str(path) for path in found if not found.intersection(path.parents)}


def _list_processes(cluster: Cluster) -> list[str]:
    """Return the command lines of the agent's processes, of all in the cluster's cgroups."""
    lines = []
    for pid in cgroups.list_processes(cluster.folder.path.name):
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if any(Path(argument).name == "otel-oom" for argument in arguments[:2]):
            lines.append(" ".join(arguments))
    return lines
