"""containerd's record of a container, which stays until the kubelet removes the container.

It is in the database of containerd's root directory, beside those of images: the configuration by
which the bundle was made, and what Kubernetes' runtime interface requested. Source: containerd,
``metadata/buckets.go``, ``pkg/cri/store/container/metadata.go``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Raw, Struct, field

from otel_oom.linux.bolt import BoltError, read_bolt_value
from otel_oom.linux.containers.json_file import NULL, bound_text, parse_json
from otel_oom.linux.untrusted_file import open_root, open_untrusted

FOLDERS: Final = (
    Path("/var/lib/containerd"),
    Path("/var/lib/rancher/k3s/agent/containerd"),
    Path("/var/lib/rancher/rke2/agent/containerd"),
    Path("/var/snap/microk8s/common/var/lib/containerd"),
    Path("/var/lib/k0s/containerd"),
)
"""The root directories of containerd by default, and of distributions of Kubernetes."""

_DATABASE: Final = Path("io.containerd.metadata.v1.bolt/meta.db")
_CONTAINERS: Final = (b"v1", b"k8s.io", b"containers")
_EXTENSION: Final = (b"extensions", b"io.cri-containerd.container.metadata")
_SANDBOXES: Final = "io.containerd.grpc.v1.cri/sandboxes"
_ROOT_UID: Final = 0


class _Config(Struct, frozen=True):
    annotations: Raw = NULL


class _Metadata(Struct, frozen=True):
    id: str | None = field(name="ID", default=None)
    image_ref: str | None = field(name="ImageRef", default=None)
    config: _Config = field(name="Config", default=_Config())


class _Extension(Struct, frozen=True, rename="pascal"):
    metadata: _Metadata = _Metadata()


class Record(Struct, frozen=True):
    """A record: ``config.json``, the id of the image, and the kubelet's annotations in JSON."""

    oci_config: bytes
    image_id: str | None
    annotations: Raw


class ContainerdStore(Struct, frozen=True):
    """A root directory ``folder`` of containerd, below the directory ``root``."""

    root: Path
    folder: Path

    def read_record(self, container_id: str) -> Record | None:
        """Read the record of a container of Kubernetes; ``None`` if there is none."""
        bucket = (*_CONTAINERS, container_id.encode("ascii"))
        try:
            with open_root(self.root) as root_fd:
                fd = open_untrusted(root_fd, self.folder / _DATABASE, owner=_ROOT_UID)
        except OSError:
            return None
        try:
            spec = read_bolt_value(fd, *bucket, b"spec")
            extension = read_bolt_value(fd, *bucket, *_EXTENSION) if spec else None
        except (OSError, BoltError):
            return None
        finally:
            os.close(fd)
        if spec is None or extension is None:
            return None
        metadata = (parse_json(_find_json(extension), _Extension) or _Extension()).metadata
        if metadata.id != container_id:
            return None
        annotations = metadata.config.annotations
        return Record(_find_json(spec), bound_text(metadata.image_ref), annotations)


def list_stores(roots: Iterable[Path]) -> Iterator[ContainerdStore]:
    """Return the stores that may be in the default directories."""
    return (ContainerdStore(root, folder) for root in roots for folder in FOLDERS)


def find_store(root: Path, sandbox_id: str, mount_sources: Iterable[str]) -> ContainerdStore | None:
    """Return the store of the containerd that mounts its own files of a sandbox."""
    folder = f"/{_SANDBOXES}/{sandbox_id}"
    for source in mount_sources:
        parent, _, name = source.rpartition("/")
        if name == "resolv.conf" and parent.endswith(folder):
            return ContainerdStore(root, Path(parent.removesuffix(folder) or "/"))
    return None


def _find_json(message: bytes) -> bytes:
    """Return the value of a ``google.protobuf.Any``: all behind its type, which has no brace."""
    return message[message.find(b"{") :]
