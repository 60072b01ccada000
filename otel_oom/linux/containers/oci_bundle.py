"""The OCI bundle: the directory that a runtime starts a container from, with ``config.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from msgspec import Raw, Struct
from msgspec.structs import replace

from otel_oom.linux.containers import cri, docker, podman
from otel_oom.linux.containers.bundle_dirs import BundleDir
from otel_oom.linux.containers.cgroups_path import names_cgroup
from otel_oom.linux.containers.containerd_store import ContainerdStore, find_store
from otel_oom.linux.containers.json_file import NULL, parse_json, select_texts
from otel_oom.linux.start_settings import select_start_settings
from otel_oom.model.snapshot import Container
from otel_oom.model.start_settings import CONTAINER, StartSettings

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


class _Process(Struct, frozen=True):
    args: list[str] = []
    env: list[str] = []


class _Config(Struct, frozen=True):
    """``config.json`` (OCI runtime specification); two fields are JSON objects as they are."""

    annotations: Raw = NULL
    process: Raw = NULL
    mounts: list[_Mount] | None = None
    linux: _Linux | None = None


class Bundle(Struct, frozen=True):
    """A container, and the ``linux.cgroupsPath`` by which its runtime makes its cgroup.

    ``store`` is that of the containerd whose files are mounted in it.
    """

    container: Container
    cgroups_path: str = ""
    store: ContainerdStore | None = None

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
    config = None
    try:
        config = bundle_dir.read_json(path, _Config)
        if config is None:
            return None
        container = _read_container(container_id, bundle_dir, config, labels, runroot)
    except PermissionError as error:
        container = Container(container_id, error=f"{error.filename}: permission denied")
    if bundle_dir.uid:
        # No kubelet runs containers of a user: such annotations name a pod of others.
        container = replace(container, annotations={})
    container = replace(container, scope=bundle_dir.scope, start=_select_start(config))
    return _make_bundle(container, config, bundle_dir.root)


def read_record(container_id: str, store: ContainerdStore) -> Bundle | None:
    """Read a container of Kubernetes from containerd's own record of it."""
    record = store.read_record(container_id)
    config = parse_json(record.oci_config, _Config) if record else None
    if record is None or config is None:
        return None
    annotations = {
        **select_texts(record.annotations, frozenset({cri.RESTART_COUNT})),
        **select_texts(config.annotations, _KEYS),
    }
    if not cri.is_cri(annotations):
        return None
    container = cri.container_from_annotations(container_id, annotations, {})
    container = replace(container, image_id=record.image_id, start=_select_start(config))
    return _make_bundle(container, config, store.root)


def _make_bundle(container: Container, config: _Config | None, root: Path) -> Bundle:
    cgroups_path = (config and config.linux and config.linux.cgroups_path) or ""
    sources = (mount.source for mount in (config and config.mounts) or ())
    sandbox_id = cri.find_containerd_sandbox(container.annotations)
    return Bundle(
        container,
        cgroups_path if len(cgroups_path) <= _MAX_PATH_CHARS else "",
        find_store(root, sandbox_id, sources) if sandbox_id and not container.scope else None,
    )


def _select_start(config: _Config | None) -> StartSettings | None:
    """Return the allowed part of what the container was started with; all else is dropped."""
    process = parse_json(config.process, _Process) if config else None
    if process is None:
        return None
    return select_start_settings(CONTAINER, process.args, process.env)


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
