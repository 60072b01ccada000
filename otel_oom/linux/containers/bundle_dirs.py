"""Where runtimes keep their bundles unless they are told otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs

_CONTAINERD: Final = (
    Path("/run/containerd/io.containerd.runtime.v2.task"),
    # The containerd that dockerd starts by itself.
    Path("/run/docker/containerd/daemon/io.containerd.runtime.v2.task"),
    Path("/var/run/docker/containerd/daemon/io.containerd.runtime.v2.task"),
)
_STORAGES: Final = (Path("/run/containers/storage"), Path("/var/lib/containers/storage"))
_USERS: Final = Path("/run/user")
"""Has a folder for each user who is there, or whose services go on."""
_OF_USER: Final = Path(".local/share/containers/storage")
_PASSWD: Final = Path("/etc/passwd")
_PASSWD_FIELDS: Final = 7
_PASSWD_BYTES: Final = 1 << 18
_MOST_FOLDERS: Final = 64


@dataclass(frozen=True, slots=True)
class BundleDir:
    """A folder of bundles: one is ``root`` + ``parent`` / the container's id / ``child``."""

    root: Path
    parent: Path
    child: str = ""

    @property
    def folder(self) -> Path:
        """The folder of the bundles, as this process reaches it."""
        return below(self.root, self.parent)

    def bundle(self, container_id: str) -> Path:
        """Where the bundle of a container is, below ``root``."""
        return self.parent / container_id / self.child


def below(root: Path, path: Path) -> Path:
    """The absolute ``path`` of another root folder, as a path here."""
    return root / path.relative_to("/")


def usual(root: Path) -> Iterator[BundleDir]:
    """The usual folders that are there now, below ``root``."""
    for tasks in _CONTAINERD:
        for namespace in _folders(below(root, tasks)):
            yield BundleDir(root, tasks / namespace)
    for storage in (*_STORAGES, *_of_users(root)):
        for name in _folders(below(root, storage)):
            # By the storage's driver: overlay-containers, vfs-containers.
            if name.endswith("-containers"):
                yield BundleDir(root, storage / name, "userdata")


def _of_users(root: Path) -> Iterator[Path]:
    """Where rootless podman keeps what it has for the users who are there now.

    Of users that are in no file of this host, their monitors tell it.
    """
    users = set(_folders(below(root, _USERS)))
    lines = procfs.read_lines(below(root, _PASSWD), _PASSWD_BYTES) if users else []
    for line in lines:
        fields = line.split(":")
        if len(fields) == _PASSWD_FIELDS and fields[2] in users and fields[5].startswith("/"):
            yield Path(fields[5]) / _OF_USER


def _folders(folder: Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry, _ in zip(entries, range(_MOST_FOLDERS), strict=False)]
    return []
