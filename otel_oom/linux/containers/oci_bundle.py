"""The OCI bundle: the folder that a runtime starts a container from, with its ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from otel_oom.linux.containers import cri, docker, json_file, podman
from otel_oom.linux.containers.bundle_dirs import BundleDir, below
from otel_oom.model.container import Container

_CONFIG: Final = "config.json"
_MANAGER: Final = "io.container.manager"


def read(
    container_id: str, place: BundleDir, labels: frozenset[str], run_lists: Path | None = None
) -> Container | None:
    """What a container's bundle, and its runtime's own files, say of it.

    Args:
        container_id: its id.
        place: where its bundle is, if it is there.
        labels: the keys of those to keep.
        run_lists: podman's second folder of lists, in the mount namespace of ``place``.

    Returns:
        The container; ``None`` where the bundle is not there, or not yet whole.
    """
    folder, root = place.bundle(container_id), place.root
    try:
        config = json_file.read(below(root, folder) / _CONFIG)
        if not isinstance(config, dict):
            return None
        annotations = json_file.mapping(config.get("annotations"))
        if annotations.get(_MANAGER) == podman.MANAGER:
            of_run = run_lists or Path("/run/containers/storage") / place.parent.name
            return podman.read(container_id, (place.folder, below(root, of_run)))
        if cri.is_cri(annotations):
            sandbox = cri.sandbox(annotations)
            bundle_of_pod = below(root, place.bundle(sandbox)) if sandbox else None
            of_pod = json_file.mapping(bundle_of_pod and json_file.read(bundle_of_pod / _CONFIG))
            told = json_file.mapping(of_pod.get("annotations"))
            return cri.read(container_id, annotations, labels, of_pod=told)
        of_daemon = docker.folder(container_id, config)
        if of_daemon:
            return docker.read(container_id, below(root, of_daemon), labels)
        return Container(container_id, _runtime(folder))
    except PermissionError as error:
        return Container(container_id, error=f"{error.filename}: may not be read")


def _runtime(folder: Path) -> str | None:
    of_containerd = any(part.startswith("io.containerd.runtime") for part in folder.parts)
    return "containerd" if of_containerd else None
