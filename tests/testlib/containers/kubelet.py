"""What a kubelet makes for a pod beside its containers: cgroups, and links to logs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.testlib.containers.cri import Pod

_CGROUPS = Path("/sys/fs/cgroup")
_LOGS = Path("/var/log/containers")


@contextmanager
def pod_cgroup(cgroup: str) -> Iterator[str]:
    """Yield the cgroup that a pod is to have; at the end remove it, and its empty parents."""
    yield cgroup
    parents = [cgroup.rsplit("/", depth)[0] for depth in range(cgroup.count("/"))]
    for parent in parents:
        for folder in (*_CGROUPS.glob(f"*{parent}"), _CGROUPS / parent.lstrip("/")):
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def log_link(pod: Pod, container: str, container_id: str, restarts: int) -> Iterator[Path]:
    """Link a container's log as the kubelet does (``legacyLogSymlink()``); the log is missing."""
    metadata = pod.config["metadata"]
    name, namespace, uid = metadata["name"], metadata["namespace"], metadata["uid"]
    target = f"/var/log/pods/{namespace}_{name}_{uid}/{container}/{restarts}.log"
    existed = _LOGS.exists()
    _LOGS.mkdir(exist_ok=True)
    link = _LOGS / f"{name}_{namespace}_{container}-{container_id}.log"
    link.symlink_to(target)
    try:
        yield link
    finally:
        link.unlink()
        if not existed:
            _LOGS.rmdir()
