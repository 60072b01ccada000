"""Cgroups as others make them: a pod's by the kubelet, and what runtimes leave behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where they are mounted: version 2 itself, or a folder for each hierarchy of version 1."""

MEMORY_V1 = CGROUPS / "memory"


@contextmanager
def nested_memcg(path: str, limit: int) -> Iterator[Path]:
    """The memory cgroup ``path`` with a limit in bytes; those above are made where absent.

    It is removed, and what a runtime has made under the same name in other hierarchies.
    """
    name = path.strip("/")
    v1 = MEMORY_V1.exists()
    top = MEMORY_V1 if v1 else CGROUPS
    try:
        (top / name).mkdir(parents=True)
        for above in () if v1 else reversed((top / name).parents[: len(Path(name).parts)]):
            (above / "cgroup.subtree_control").write_text("+memory", encoding="ascii")
        setting = "memory.limit_in_bytes" if v1 else "memory.max"
        (top / name / setting).write_text(str(limit), encoding="ascii")
        yield top / name
    finally:
        for hierarchy in CGROUPS.iterdir() if v1 else (CGROUPS,):
            remove_cgroup(hierarchy / name)
            with suppress(OSError):
                os.removedirs((hierarchy / name).parent)  # as far as nothing else is in them


def remove_cgroup(cgroup: Path) -> bool:
    """Remove a cgroup and those in it, as far as nobody is left in them; whether all are gone."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not cgroup.exists()
