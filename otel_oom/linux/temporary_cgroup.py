"""Temporary memory cgroups, on cgroup v1 and v2.

Guests of the tests use them as well, where an import takes ten times as long: keep imports few.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final, Self

from otel_oom.linux.cgroupfs import CgroupMount

_REMOVAL_S: Final = 2.5
_PAUSE_S: Final = 0.05


class CgroupError(Exception):
    """No memory cgroup can be made here; the message says what to do."""


class Cgroup:
    """A memory cgroup of this host by its ``path``, as the kernel shows it."""

    removal_s = _REMOVAL_S

    def __init__(self, path: str | None = None) -> None:
        """Use the cgroup at ``path``, else the root. Raises CgroupError if none is mounted."""
        mount = CgroupMount.find()
        if mount is None:
            raise CgroupError(
                "No memory cgroup hierarchy is mounted. "
                "Mount one: mount -t cgroup2 none /sys/fs/cgroup"
            )
        self.v1 = mount.v1
        self.path = mount.root if path is None else path
        self.folder: Path = mount.mount / self.path.removeprefix(mount.root).lstrip("/")

    @property
    def procs(self) -> Path:
        """The file that moves a process in when its pid is written there."""
        return self.folder / "cgroup.procs"

    @property
    def inode(self) -> int:
        """The cgroup's id, which is the inode of its folder."""
        return self.folder.stat().st_ino

    def delegate_memory(self) -> None:
        """Enable the memory controller for its children, which v1 always does."""
        control = self.folder / "cgroup.subtree_control"
        if not self.v1 and "memory" not in control.read_text(encoding="ascii").split():
            control.write_text("+memory", encoding="ascii")

    def child(self, name: str) -> TemporaryCgroup:
        """Return a cgroup below this one, which exists while its context does."""
        return TemporaryCgroup(name, parent=self, removal_s=self.removal_s)


class TemporaryCgroup(Cgroup):
    """A memory cgroup that exists while the context does; processes left in it are killed."""

    def __init__(
        self,
        name: str,
        limit: int | None = None,
        *,
        parent: Cgroup | None = None,
        removal_s: float = _REMOVAL_S,
    ) -> None:
        """Prepare a cgroup below ``parent``, or below the root.

        ``limit`` are the bytes that it may use, with no swap. If its processes need longer than
        ``removal_s`` to die, the cgroup is left behind.
        """
        self._parent = parent or Cgroup()
        super().__init__(f"{self._parent.path.rstrip('/')}/{name}")
        self._limit = limit
        self.removal_s = removal_s

    def __enter__(self) -> Self:
        """Make it. Raises CgroupError."""
        try:
            if self._limit is not None:
                self._parent.delegate_memory()
            self.folder.mkdir()
            if self._limit is not None:
                self._set_limit(self._limit)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            raise CgroupError(
                f"No memory cgroup can be made at {self.folder}: {error.strerror}. "
                "Run this as root, outside of a container or in a privileged one."
            ) from error
        return self

    def _set_limit(self, limit: int) -> None:
        # The limit of v1's memsw includes swap.
        memory, swap, swap_limit = (
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit)
            if self.v1
            else ("memory.max", "memory.swap.max", 0)
        )
        (self.folder / memory).write_text(str(limit), encoding="ascii")
        # Absent where the kernel does not account swap.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            (self.folder / swap).write_text(str(swap_limit), encoding="ascii")

    def __exit__(self, *_: object) -> None:
        deadline = time.monotonic() + self.removal_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                self._kill_all()
                self.folder.rmdir()
                return
            time.sleep(_PAUSE_S)

    def _kill_all(self) -> None:
        for pid in self.procs.read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
