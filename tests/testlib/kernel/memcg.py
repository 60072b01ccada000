"""Temporary memory cgroups with names and limits of the tests."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.temporary_cgroup import Cgroup, TemporaryCgroup

CGROUP_MOUNT: Final = CgroupMount.find() or CgroupMount(Path("/sys/fs/cgroup"), "/", v1=False)
"""The mounted hierarchy: of version 2 in guests, of either version on this machine."""

MEMCG_LIMIT: Final = 16 << 20

_REMOVAL_S: Final = 60.0

_serial = itertools.count()


@contextmanager
def own_memcg(limit: int = MEMCG_LIMIT) -> Iterator[TemporaryCgroup]:
    """Make a cgroup that no other test has, below the root; it may use ``limit`` bytes."""
    name = f"otel-oom-test-{os.getpid()}-{next(_serial)}"
    with TemporaryCgroup(name, limit, removal_s=_REMOVAL_S) as memcg:
        yield memcg
    assert not memcg.folder.exists(), f"{memcg.path} still has processes"


def cgroup_prefix(memcg: Cgroup) -> tuple[str, ...]:
    """Return a command prefix: the command runs in this cgroup."""
    return ("/bin/sh", "-c", 'echo $$ > "$0" && exec "$@"', str(memcg.procs))
