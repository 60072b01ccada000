"""The directories in which container runtimes keep their bundles by default."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct

from otel_oom.linux import procfs
from otel_oom.linux.containers.json_file import read_json
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.untrusted_file import list_untrusted_dir

_CONTAINERD: Final = tuple(
    Path(state, "io.containerd.runtime.v2.task")
    for state in (
        "/run/containerd",
        # The containerd that dockerd starts itself.
        "/run/docker/containerd/daemon",
        "/var/run/docker/containerd/daemon",
        # k3s and RKE2 (pkg/agent/templates of k3s: state).
        "/run/k3s/containerd",
        # k0s (docs/runtime.md: --state).
        "/run/k0s/containerd",
        # MicroK8s (microk8s-resources/default-args/containerd: --state).
        "/var/snap/microk8s/common/run/containerd",
    )
)
"""State directories of containerd, by distribution, with the folder of its runtime."""
_STORAGES: Final = (Path("/run/containers/storage"), Path("/var/lib/containers/storage"))
_USER_STORAGE: Final = Path(".local/share/containers/storage")
_USER_SCOPE: Final = re.compile(r"/user\.slice/user-(\d{1,10})\.slice(?=/)")
_PASSWD: Final = Path("/etc/passwd")
_PASSWD_FIELDS: Final = 7
_PASSWD_BYTES: Final = 1 << 18
_MAX_FOLDERS: Final = 64
_MAX_USER_DIRS: Final = 4
"""A storage has one for each storage driver that was used."""

_T = TypeVar("_T")


class BundleDir(Struct, frozen=True):
    """A directory of bundles: each is ``root`` + ``parent`` / container id / ``child``.

    ``uid`` is the user whose runtime it is; 0 for a runtime of the host, or within a container.
    """

    root: Path
    parent: Path
    child: str = ""
    uid: int = 0

    @property
    def folder(self) -> Path:
        """The directory of the bundles, as this process reaches it."""
        return path_in_root(self.root, self.parent)

    @property
    def scope(self) -> str:
        """The cgroup below which its user's runtime is believed; empty for all cgroups."""
        return f"/user.slice/user-{self.uid}.slice" if self.uid else ""

    def bundle_path(self, container_id: str) -> Path:
        """Return the path of a container's bundle below ``root``."""
        return self.parent / container_id / self.child

    def read_json(self, path: Path, kind: type[_T]) -> _T | None:
        """Read a file below ``root``, as :func:`.read_json`; of a user only the user's own."""
        return read_json(self.root, path, kind, self.uid or None)


def path_in_root(root: Path, path: Path) -> Path:
    """Return a ``path`` of another root directory as one of this process.

    A runtime's file names it: it may be relative, or begin with two slashes.
    """
    return root / str(path).lstrip("/")


def find_init_root(proc: Path) -> Path:
    """Return the root directory of init, as this process reaches it."""
    own, of_init = (ProcessDir(pid, proc).namespace_inode("mnt") for pid in ("self", 1))
    return Path("/") if of_init in {None, own} else proc / "1/root"


def find_bundle_dirs(root: Path) -> Iterator[BundleDir]:
    """Return the default directories of the host's runtimes that exist now, below ``root``."""
    for tasks in _CONTAINERD:
        for namespace in list_untrusted_dir(root, tasks, _MAX_FOLDERS):
            yield BundleDir(root, tasks / namespace)
    for storage in _STORAGES:
        yield from _find_in_storage(root, storage)


def find_user_bundle_dirs(root: Path, cgroup_path: str) -> Iterator[BundleDir]:
    """Return the default directories of rootless podman of the user whose slice a cgroup is in.

    Storages of users who are not in this host's files are found by their shims.
    """
    match = _USER_SCOPE.match(cgroup_path)
    uid = match[1] if match else "0"
    lines = procfs.read_lines(path_in_root(root, _PASSWD), _PASSWD_BYTES) if uid != "0" else []
    for fields in (line.split(":") for line in lines):
        if len(fields) == _PASSWD_FIELDS and fields[2] == uid and fields[5].startswith("/"):
            found = _find_in_storage(root, Path(fields[5]) / _USER_STORAGE, int(uid))
            yield from islice(found, _MAX_USER_DIRS)


def _find_in_storage(root: Path, storage: Path, uid: int = 0) -> Iterator[BundleDir]:
    for name in list_untrusted_dir(root, storage, _MAX_FOLDERS):
        # Named after the storage driver: overlay-containers, vfs-containers.
        if name.endswith("-containers"):
            yield BundleDir(root, storage / name, "userdata", uid)
