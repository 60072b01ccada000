"""The directories in which container runtimes keep their bundles by default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux import procfs

_CONTAINERD: Final = (
    Path("/run/containerd/io.containerd.runtime.v2.task"),
    # The containerd that dockerd starts itself.
    Path("/run/docker/containerd/daemon/io.containerd.runtime.v2.task"),
    Path("/var/run/docker/containerd/daemon/io.containerd.runtime.v2.task"),
)
_STORAGES: Final = (Path("/run/containers/storage"), Path("/var/lib/containers/storage"))
_USERS: Final = Path("/run/user")
"""Has a directory for each user with a session or a lingering service."""
_USER_STORAGE: Final = Path(".local/share/containers/storage")
_PASSWD: Final = Path("/etc/passwd")
_PASSWD_FIELDS: Final = 7
_PASSWD_BYTES: Final = 1 << 18
_MAX_FOLDERS: Final = 64


class BundleDir(Struct, frozen=True):
    """A directory of bundles: each is ``root`` + ``parent`` / container id / ``child``."""

    root: Path
    parent: Path
    child: str = ""

    @property
    def folder(self) -> Path:
        """The directory of the bundles, as this process reaches it."""
        return path_in_root(self.root, self.parent)

    def bundle_path(self, container_id: str) -> Path:
        """Return the path of a container's bundle below ``root``."""
        return self.parent / container_id / self.child


def path_in_root(root: Path, path: Path) -> Path:
    """Return a ``path`` of another root directory as one of this process.

    A runtime's file names it: it may be relative, or begin with two slashes.
    """
    return root / str(path).lstrip("/")


def find_bundle_dirs(root: Path) -> Iterator[BundleDir]:
    """Return the default directories that exist now, below ``root``."""
    for tasks in _CONTAINERD:
        for namespace in _list_dir(path_in_root(root, tasks)):
            yield BundleDir(root, tasks / namespace)
    for storage in (*_STORAGES, *_user_storages(root)):
        for name in _list_dir(path_in_root(root, storage)):
            # Named after the storage driver: overlay-containers, vfs-containers.
            if name.endswith("-containers"):
                yield BundleDir(root, storage / name, "userdata")


def _user_storages(root: Path) -> Iterator[Path]:
    """Return the storages of rootless podman of the users who are present now.

    Storages of users who are not in this host's files are found by their shims.
    """
    users = set(_list_dir(path_in_root(root, _USERS)))
    lines = procfs.read_lines(path_in_root(root, _PASSWD), _PASSWD_BYTES) if users else []
    for line in lines:
        fields = line.split(":")
        if len(fields) == _PASSWD_FIELDS and fields[2] in users and fields[5].startswith("/"):
            yield Path(fields[5]) / _USER_STORAGE


def _list_dir(folder: Path) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry, _ in zip(entries, range(_MAX_FOLDERS), strict=False)]
    return []
