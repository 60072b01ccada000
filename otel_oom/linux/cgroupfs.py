"""A memory cgroup's own files, on either version of cgroups."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux import procfs as proc_file
from otel_oom.model.types import Memcg, MemcgUsage

_READ_BYTES: Final = 8192

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
"""How mountinfo writes a space, a tab, a newline and a backslash."""


_ABOVE: Final = re.compile(r"(?:/\.\.)*/?")
"""The top of the hierarchy, from wherever in it (cgroup_namespaces(7)); what is mounted may be less
than that, which the inode of a cgroup's folder tells."""


@dataclass(frozen=True, slots=True)
class CgroupMount:
    """Where the memory controller's hierarchy is mounted, and in which version's file names."""

    mount: Path
    root: str
    v1: bool

    @classmethod
    def find(cls, mountinfo: Path = Path("/proc/self/mountinfo")) -> CgroupMount | None:
        """The memory hierarchy among this process's mounts (proc_pid_mountinfo(5)), if any.

        A v1 mount with the memory controller wins: then v2, if mounted, has no memory files.
        """
        v2 = None
        for line in mountinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            before, _, after = line.partition(" - ")
            fields, rest = before.split(" "), after.split(" ")
            mount = Path(_OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4]))
            if rest[0] == "cgroup" and "memory" in rest[-1].split(","):
                return cls(mount, fields[3], v1=True)
            if rest[0] == "cgroup2" and v2 is None:
                v2 = cls(mount, fields[3], v1=False)
        return v2

    def folder(self, memcg: Memcg) -> Path | None:
        """The folder of ``memcg``; ``None`` when it is not below this mount."""
        root = self._top
        if memcg.path_cut or not f"{memcg.path}/".startswith(f"{root}/"):
            return None
        return self.mount / memcg.path[len(root) :].lstrip("/")

    def path_of(self, folder: Path) -> str:
        """The path of the cgroup whose folder is ``folder``, below this mount."""
        return f"{self._top}/{folder.relative_to(self.mount)}".removesuffix("/.") or "/"

    @property
    def _top(self) -> str:
        # Above the top of a cgroup namespace, such as a container's, is the host's.
        return "" if _ABOVE.fullmatch(self.root) else self.root.rstrip("/")

    def own_folder(self, memcg: Memcg) -> Path | None:
        """The folder of ``memcg`` if it is there and is its own."""
        folder = self.folder(memcg)
        try:
            # In a cgroup namespace, or where one of that name was made anew, it is another.
            same = folder is not None and memcg.id in {None, folder.stat().st_ino}
        except OSError:
            return None
        return folder if same else None

    def limits(self, memcg: Memcg) -> MemcgUsage | None:
        """The bounds and usage of ``memcg`` now; ``None`` when its folder can't be found."""
        folder = self.own_folder(memcg)
        if folder is None:
            return None
        names = (
            (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "memory.memsw.limit_in_bytes",
                "memory.memsw.usage_in_bytes",
            )
            if self.v1
            else ("memory.max", "memory.current", "memory.swap.max", "memory.swap.current")
        )
        return MemcgUsage(*(_number(folder / name) for name in names))


_V1_UNLIMITED: Final = 1 << 62
"""No limit on v1 is the largest multiple of the page size in a signed long."""


def _number(path: Path) -> int | None:
    text = (proc_file.read(path, _READ_BYTES) or "").strip()
    if not text.isdecimal():
        return None
    value = int(text)
    return value if value < _V1_UNLIMITED else None
