"""The OCI bundle: the directory that a runtime starts a container from, with ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from otel_oom.linux.containers import cri, docker, podman
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.cgroups_path import names_cgroup
from otel_oom.linux.containers.json_file import NULL, select_texts
from otel_oom.model.snapshot import Container

_CONFIG: Final = "config.json"
_MANAGER: Final = "io.container.manager"
_KEYS: Final = cri.KEYS | {_MANAGER}
_RUNROOT: Final = Path("/run/containers/storage")
_MAX_PATH_CHARS: Final = 4096
"""PATH_MAX; a longer cgroup path is none."""


class _Mount(Struct, frozen=True):
    destination: str
    source: str = ""


class _Linux(Struct, frozen=True, rename="camel"):
    cgroups_path: str | None = None


class _Config(Struct, frozen=True):
    """``config.json`` (OCI runtime specification); ``annotations`` is a JSON object."""

    annotations: Raw = NULL
    mounts: list[_Mount] | None = None
    linux: _Linux | None = None


class Bundle(Struct, frozen=True):
    """A container, and the ``linux.cgroupsPath`` by which its runtime makes its cgroup."""

    container: Container
    cgroups_path: str = ""

    def fits(self, cgroup: str, *, whole: bool) -> bool:
        """Return whether ``cgroup`` is that of the container, see :func:`.names_cgroup`."""
        return names_cgroup(self.cgroups_path, cgroup, whole=whole)


def read_bundle(
    container_id: str, bundle_dir: BundleDir, labels: frozenset[str], runroot: Path | None = None
) -> Bundle | None:
    """Read a container's bundle, and its runtime's own files.

    ``None`` where the bundle does not exist, or is not complete yet. ``runroot`` is podman's
    directory of volatile lists, in the mount namespace of ``bundle_dir``.
    """
    path = bundle_dir.bundle_path(container_id) / _CONFIG
    cgroups_path = ""
    try:
        config = bundle_dir.read_json(path, _Config)
        if config is None:
            return None
        written_path = (config.linux and config.linux.cgroups_path) or ""
        if len(written_path) <= _MAX_PATH_CHARS:
            cgroups_path = written_path
        container = _read_container(container_id, bundle_dir, config, labels, runroot)
    except PermissionError as error:
        container = Container(container_id, error=f"{error.filename}: permission denied")
    if bundle_dir.uid:
        # No kubelet runs containers of a user: such annotations name a pod of others.
        container = replace(container, annotations={})
    return Bundle(replace(container, scope=bundle_dir.scope), cgroups_path)


def _read_container(
    container_id: str,
    bundle_dir: BundleDir,
    config: _Config,
    labels: frozenset[str],
    runroot: Path | None,
) -> Container:
    annotations = select_texts(config.annotations, _KEYS)
    if annotations.get(_MANAGER) == podman.MANAGER:
        volatile = runroot or _RUNROOT / bundle_dir.parent.name
        return podman.read_container(container_id, bundle_dir, (bundle_dir.parent, volatile))
    if cri.is_cri(annotations):
        sandbox_id = cri.find_sandbox_id(annotations)
        path = bundle_dir.bundle_path(sandbox_id) / _CONFIG if sandbox_id else None
        sandbox = bundle_dir.read_json(path, _Config) if path else None
        pod_labels = cri.select_labels(sandbox.annotations, labels) if sandbox else {}
        own_labels = cri.select_labels(config.annotations, labels)
        return cri.container_from_annotations(
            container_id, annotations, {**pod_labels, **own_labels}
        )
    sources = (mount.source for mount in config.mounts or ())
    container_dir = docker.find_container_dir(container_id, sources)
    if container_dir:
        return docker.read_container(container_id, bundle_dir, container_dir, labels)
    by_containerd = any(part.startswith("io.containerd.") for part in bundle_dir.parent.parts)
    return Container(container_id, "containerd" if by_containerd else None)
