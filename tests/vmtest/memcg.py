"""Memory cgroups and what is killed in them, with as few imports as there can be.

What the package's demonstration has for it brings OTLP along, which takes a guest a minute.
A guest has cgroup v2; the machine itself may have v1.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount
from tests.vmtest.programs import program

FILES: Final = CgroupMount.find() or CgroupMount(Path("/sys/fs/cgroup"), "/", v1=False)
"""The hierarchy that is mounted here."""

_KILLED_S: Final = 60.0

_serial = itertools.count()


@dataclass(frozen=True)
class Memcg:
    """A cgroup with the memory controller."""

    path: str
    """As the kernel tells it."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return FILES.mount / self.path.removeprefix(FILES.root).lstrip("/")

    @property
    def procs(self) -> Path:
        """The file that takes the pid of a process to move it in."""
        return self.folder / "cgroup.procs"

    @property
    def inode(self) -> int:
        """Its number in the file system."""
        return self.folder.stat().st_ino

    def hand_down(self) -> None:
        """Let the memory controller account its children apart, which v1 always does."""
        if not FILES.v1:
            (self.folder / "cgroup.subtree_control").write_text("+memory", encoding="ascii")

    @contextmanager
    def child(self, name: str) -> Iterator[Memcg]:
        """A cgroup below it, for as long as the context is."""
        inner = Memcg(f"{self.path.rstrip('/')}/{name}")
        inner.folder.mkdir()
        try:
            yield inner
        finally:
            inner.remove()

    def remove(self) -> None:
        """Kill what is in it, and remove it once that is gone."""
        deadline = time.monotonic() + _KILLED_S
        while pids := self.procs.read_text(encoding="ascii").split():
            assert time.monotonic() < deadline, f"{self.path} is not left by {pids}"
            for pid in pids:
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)
        self.folder.rmdir()


@contextmanager
def limited(limit: int) -> Iterator[Memcg]:
    """A cgroup of one's own below the root that may use ``limit`` bytes, and no swap."""
    root = Memcg(FILES.root)
    root.hand_down()
    bounds = (
        # On v1 the second is of memory and swap together.
        {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": limit}
        if FILES.v1
        else {"memory.max": limit, "memory.swap.max": 0}
    )
    with root.child(f"guest-{os.getpid()}-{next(_serial)}") as own:
        for name, bound in bounds.items():
            with suppress(FileNotFoundError):  # where the kernel does not account swap
                (own.folder / name).write_text(str(bound), encoding="ascii")
        yield own


def fill_cgroup(memcg: Memcg) -> int:
    """Fill the cgroup from one process until the kernel kills it; return its pid."""
    with subprocess.Popen([program("fill_cgroup"), memcg.procs]) as process:
        killed(process)
    return process.pid


@contextmanager
def python(program: str, memcg: Memcg) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that may enter the cgroup by itself, killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, memcg.procs], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def killed(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process was killed.

    Raises:
        AssertionError: it ended otherwise.
    """
    code = process.wait(_KILLED_S)
    assert code == -signal.SIGKILL, f"{process.args!r} was not killed, it ended with {code}"
