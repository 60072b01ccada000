"""The files of memory cgroups, on cgroup v1 and v2."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux import procfs
from otel_oom.model.types import Memcg, MemcgUsage

_READ_BYTES: Final = 8192
_MAX_FOLDERS: Final = 4096

_ABOVE: Final = re.compile(r"(?:/\.\.)*/?")
"""Roots in mountinfo that mean the top of the hierarchy, or above it (cgroup_namespaces(7)).

The mounted part may be smaller than that: hence the comparison of inodes."""

_V1_FILES: Final = (
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.memsw.usage_in_bytes",
)
_V2_FILES: Final = ("memory.max", "memory.current", "memory.swap.max", "memory.swap.current")
UNLIMITED_V1_BYTES: Final = 1 << 62
"""No limit on v1 is the largest multiple of the page size in a signed long."""


class CgroupMount(Struct, frozen=True):
    """The mount of the memory controller's hierarchy; ``v1`` decides on the names of files."""

    mount: Path
    root: str
    v1: bool

    @classmethod
    def find(cls, mountinfo: Path = procfs.MOUNTINFO) -> CgroupMount | None:
        """Find the memory hierarchy among this process's mounts.

        A v1 mount with the memory controller wins: then v2, if mounted, has no memory files.
        """
        v2 = None
        for mount in procfs.read_mounts(mountinfo):
            if mount.file_system == "cgroup" and "memory" in mount.super_options:
                return cls(mount.path, mount.root, v1=True)
            if mount.file_system == "cgroup2" and v2 is None:
                v2 = cls(mount.path, mount.root, v1=False)
        return v2

    def folder(self, memcg: Memcg) -> Path | None:
        """Return the folder of ``memcg``; ``None`` when it is not below this mount."""
        root = self._root_path
        if memcg.path_cut or not f"{memcg.path}/".startswith(f"{root}/"):
            return None
        return self.mount / memcg.path[len(root) :].lstrip("/")

    def path_of(self, folder: Path) -> str:
        """Return the path of the cgroup whose folder is ``folder``, below this mount."""
        return f"{self._root_path}/{folder.relative_to(self.mount)}".removesuffix("/.") or "/"

    @property
    def _root_path(self) -> str:
        # Above the top of a cgroup namespace, such as a container's, is the host's.
        return "" if _ABOVE.fullmatch(self.root) else self.root.rstrip("/")

    def existing_folder(self, memcg: Memcg) -> Path | None:
        """Return the folder of ``memcg`` if it exists and has its inode."""
        folder = self.folder(memcg)
        try:
            # In a cgroup namespace, or after it was made again, that path is another cgroup.
            same = folder is not None and memcg.id in {None, folder.stat().st_ino}
        except OSError:
            return None
        return folder if same else None

    def read_usage(self, memcg: Memcg) -> MemcgUsage | None:
        """Read the limits and usage of ``memcg``; ``None`` when its folder does not exist."""
        folder = self.existing_folder(memcg)
        if folder is None:
            return None
        numbers = (read_single_value(f"{folder}/{name}") for name in self._usage_files)
        return MemcgUsage(*(None if n is None or n >= UNLIMITED_V1_BYTES else n for n in numbers))

    def lacks_swap_files(self, memcg: Memcg) -> bool:
        """Return whether ``memcg`` has a file of its usage, but none of its swap's."""
        folder = self.existing_folder(memcg)
        _, usage, _, swap_usage = self._usage_files
        return (
            folder is not None
            and os.access(f"{folder}/{usage}", os.F_OK)
            and not os.access(f"{folder}/{swap_usage}", os.F_OK)
        )

    @property
    def _usage_files(self) -> tuple[str, ...]:
        """Names in the order of :class:`MemcgUsage`."""
        return _V1_FILES if self.v1 else _V2_FILES


def walk_cgroups(folder: Path, deadline: float = math.inf) -> Iterator[Path]:
    """Return a cgroup's folder and those of the cgroups below it, at most 4096.

    The walk ends at ``deadline``, by the clock of :func:`time.monotonic`.
    """
    waiting, count = [folder], 0
    while waiting and time.monotonic() < deadline:
        current = waiting.pop()
        count += 1
        yield current
        with suppress(OSError), os.scandir(current) as entries:
            children = (Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))
            waiting += islice(children, _MAX_FOLDERS - count - len(waiting))


def read_flat_keyed(path: Path | str) -> dict[str, int]:
    """Read a file of names and numbers, such as ``memory.stat``; of equal names the last counts."""
    values = {}
    for line in (procfs.read_text(path, _READ_BYTES) or "").split("\n"):
        name, _, value = line.partition(" ")
        if value.isdecimal():
            values[name] = int(value)
    return values


def read_single_value(path: Path | str) -> int | None:
    """Read a file of one number; ``None`` if it is absent, or holds ``max``."""
    text = (procfs.read_text(path, _READ_BYTES) or "").strip()
    return int(text) if text.isdecimal() else None
