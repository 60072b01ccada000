"""The OCI bundle: the directory that a runtime starts a container from, with ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Raw, Struct

from otel_oom.linux.containers import cri, docker, podman
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.json_file import NULL, read_json, select_texts
from otel_oom.model.snapshot import Container

_CONFIG: Final = "config.json"
_MANAGER: Final = "io.container.manager"
_KEYS: Final = cri.KEYS | {_MANAGER}
_RUNROOT: Final = Path("/run/containers/storage")


class _Mount(Struct, frozen=True):
    destination: str
    source: str = ""


class _Config(Struct, frozen=True):
    """``config.json`` (OCI runtime specification); ``annotations`` is a JSON object."""

    annotations: Raw = NULL
    mounts: list[_Mount] | None = None


def read_bundle(
    container_id: str, bundle_dir: BundleDir, labels: frozenset[str], runroot: Path | None = None
) -> Container | None:
    """Read a container's bundle, and its runtime's own files.

    ``None`` where the bundle does not exist, or is not complete yet. ``runroot`` is podman's
    directory of volatile lists, in the mount namespace of ``bundle_dir``.
    """
    root, path = bundle_dir.root, bundle_dir.bundle_path(container_id)
    try:
        config = read_json(root, path / _CONFIG, _Config)
        if config is None:
            return None
        annotations = select_texts(config.annotations, _KEYS)
        if annotations.get(_MANAGER) == podman.MANAGER:
            volatile = runroot or _RUNROOT / bundle_dir.parent.name
            return podman.read_container(container_id, root, (bundle_dir.parent, volatile))
        if cri.is_cri(annotations):
            sandbox_id = cri.find_sandbox_id(annotations)
            sandbox_path = bundle_dir.bundle_path(sandbox_id) if sandbox_id else None
            sandbox = read_json(root, sandbox_path / _CONFIG, _Config) if sandbox_path else None
            pod_labels = cri.select_labels(sandbox.annotations, labels) if sandbox else {}
            own_labels = cri.select_labels(config.annotations, labels)
            return cri.container_from_annotations(
                container_id, annotations, {**pod_labels, **own_labels}
            )
        sources = (mount.source for mount in config.mounts or ())
        container_dir = docker.find_container_dir(container_id, sources)
        if container_dir:
            return docker.read_container(container_id, root, container_dir, labels)
        by_containerd = any(part.startswith("io.containerd.runtime") for part in path.parts)
        return Container(container_id, "containerd" if by_containerd else None)
    except PermissionError as error:
        return Container(container_id, error=f"{error.filename}: permission denied")
