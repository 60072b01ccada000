"""The OCI bundle: the directory that a runtime starts a container from, with ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_oom.linux.containers import cri, docker, podman
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.json_file import as_object, read_json
from otel_oom.model.snapshot import Container

_CONFIG: Final = "config.json"
_MANAGER: Final = "io.container.manager"
_RUNROOT: Final = Path("/run/containers/storage")


def read_bundle(
    container_id: str, bundle_dir: BundleDir, labels: frozenset[str], runroot: Path | None = None
) -> Container | None:
    """Read a container's bundle, and its runtime's own files.

    ``None`` where the bundle does not exist, or is not complete yet. ``runroot`` is podman's
    directory of volatile lists, in the mount namespace of ``bundle_dir``.
    """
    root, path = bundle_dir.root, bundle_dir.bundle_path(container_id)
    try:
        config = read_json(root, path / _CONFIG)
        if not isinstance(config, dict):
            return None
        annotations = as_object(config.get("annotations"))
        if annotations.get(_MANAGER) == podman.MANAGER:
            volatile = runroot or _RUNROOT / bundle_dir.parent.name
            return podman.read_container(container_id, root, (bundle_dir.parent, volatile))
        if cri.is_cri(annotations):
            sandbox_id = cri.find_sandbox_id(annotations)
            sandbox = bundle_dir.bundle_path(sandbox_id) if sandbox_id else None
            sandbox_config = read_json(root, sandbox / _CONFIG) if sandbox else None
            of_sandbox = as_object(as_object(sandbox_config).get("annotations"))
            return cri.container_from_annotations(container_id, annotations, of_sandbox, labels)
        container_dir = docker.find_container_dir(container_id, config)
        if container_dir:
            return docker.read_container(container_id, root, container_dir, labels)
        by_containerd = any(part.startswith("io.containerd.runtime") for part in path.parts)
        return Container(container_id, "containerd" if by_containerd else None)
    except PermissionError as error:
        return Container(container_id, error=f"{error.filename}: permission denied")
