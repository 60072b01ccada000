"""The cgroups of a cluster: those of its pods, and that of its components."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from otel_oom.linux.cgroupfs import CgroupMount
from tests.testlib.wait import wait_until

_END_S = 30.0


def list_mounts() -> list[Path]:
    """Return the folders of all mounted hierarchies, of version 1 and 2."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] in {"cgroup", "cgroup2"}:
            mounts.append(Path(left.split()[4]))
    return mounts


def make_cgroups(name: str) -> None:
    """Make a cluster's cgroup in each hierarchy, as the kubelet demands."""
    for mount in list_mounts():
        (mount / name).mkdir(exist_ok=True)


def join_components(name: str) -> None:
    """Move this process, and so its later children, into the cgroup of a cluster's components.

    Shims of containers outlive their parent, but do not leave the cgroup.
    """
    folder = _memory_folder(name) / "components"
    folder.mkdir(exist_ok=True)
    (folder / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def remove_cgroups(name: str) -> None:
    """Kill all processes of a cluster but this one, and remove its cgroups."""
    memory = _memory_folder(name)
    if memory.exists():
        (memory.parent / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
        wait_until(lambda: not _kill_all(name), f"the end of {name}", limit=_END_S)
    for mount in list_mounts():
        _remove(mount / name)


def list_processes(name: str) -> list[int]:
    """Return the pids of all processes in a cluster's cgroups."""
    pids: list[int] = []
    for folder in _walk(_memory_folder(name)):
        with suppress(OSError):
            pids += map(int, (folder / "cgroup.procs").read_text(encoding="ascii").split())
    return pids


def list_leftovers(prefix: str) -> set[str]:
    """Return the names of cgroups that begin with ``prefix``, of all hierarchies."""
    return {folder.name for mount in list_mounts() for folder in mount.glob(f"{prefix}*")}


def _memory_folder(name: str) -> Path:
    mount = CgroupMount.find()
    assert mount is not None, "no memory cgroup hierarchy is mounted"
    return mount.mount / name


def _kill_all(name: str) -> int:
    """Kill all processes of a cluster; return their number."""
    pids = list_processes(name)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def _remove(folder: Path) -> None:
    deadline = time.monotonic() + _END_S
    for current in sorted(_walk(folder), reverse=True):
        while current.exists():
            try:
                current.rmdir()
            except OSError:  # busy: a process that has just ended
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def _walk(folder: Path) -> Iterator[Path]:
    for current, _, _ in os.walk(folder):
        yield Path(current)
