"""Nested cgroups as the kubelet makes them for pods."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.testlib.wait import wait_until

CGROUPS = Path("/sys/fs/cgroup")
"""The mount point: of version 2 itself, or of a folder for each hierarchy of version 1."""

MEMORY_V1 = CGROUPS / "memory"


@contextmanager
def nested_memcg(path: str, limit: int) -> Iterator[Path]:
    """Make the memory cgroup ``path`` with a limit in bytes, and its missing parents.

    At the end it is removed, with the cgroups of the same path in other hierarchies, which a
    runtime has made.
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
            with suppress(TimeoutError):
                # The runtime's monitor ends a little later than its container.
                wait_until(partial(remove_cgroup, hierarchy / name), f"the end of {name}")
            with suppress(OSError):
                os.removedirs((hierarchy / name).parent)  # stops where another cgroup is inside


def remove_cgroup(cgroup: Path) -> bool:
    """Remove a cgroup and its empty descendants; return True if all are gone."""
    for folder, _, _ in os.walk(cgroup, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not cgroup.exists()
