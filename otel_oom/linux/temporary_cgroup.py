"""A memory cgroup of one's own, on either version of cgroups."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final, Self

from otel_oom.linux.cgroupfs import CgroupMount

_REMOVE_TRIES: Final = 50
_REMOVE_PAUSE_S: Final = 0.05


class MemcgError(Exception):
    """No memory cgroup can be made here; the message says what to do."""


class OwnMemcg:
    """A memory cgroup that exists while the context does; what is left in it is killed."""

    def __init__(self, name: str, limit: int) -> None:
        """Prepare a cgroup ``name``, directly below the root, that may use ``limit`` bytes."""
        files = CgroupMount.find()
        if files is None:
            raise MemcgError(
                "No memory cgroup hierarchy is mounted. "
                "Mount one: mount -t cgroup2 none /sys/fs/cgroup"
            )
        self._files = files
        self._limit = limit
        self.folder: Path = files.mount / name
        self.path = f"{files.root.rstrip('/')}/{name}"
        """The path in the hierarchy, as the kernel tells it."""

    def __enter__(self) -> Self:
        """Make it, with its limit, and with no swap to escape to.

        Raises:
            MemcgError: not permitted, or no memory controller.
        """
        try:
            if not self._files.v1:
                self._enable_controller()
            self.folder.mkdir()
            self._set_limits()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.folder.rmdir()
            raise MemcgError(
                f"No memory cgroup can be made at {self.folder}: {error.strerror}. "
                "Run this as root, outside of a container or in a privileged one."
            ) from error
        return self

    def _enable_controller(self) -> None:
        """See that children of the mount's top have the memory controller."""
        control = self._files.mount / "cgroup.subtree_control"
        if "memory" not in control.read_text(encoding="ascii").split():
            control.write_text("+memory", encoding="ascii")

    def _set_limits(self) -> None:
        limit, swap = (
            ("memory.limit_in_bytes", ("memory.memsw.limit_in_bytes", str(self._limit)))
            if self._files.v1
            else ("memory.max", ("memory.swap.max", "0"))
        )
        (self.folder / limit).write_text(str(self._limit), encoding="ascii")
        # Absent where the kernel does not account swap.
        with contextlib.suppress(FileNotFoundError, PermissionError):
            (self.folder / swap[0]).write_text(swap[1], encoding="ascii")

    @property
    def procs(self) -> Path:
        """The file that takes the pid of a process to move it in."""
        return self.folder / "cgroup.procs"

    def __exit__(self, *_: object) -> None:
        """Kill what is left inside and remove the cgroup."""
        for _try in range(_REMOVE_TRIES):
            with contextlib.suppress(OSError):
                self._kill_all()
                self.folder.rmdir()
                return
            time.sleep(_REMOVE_PAUSE_S)

    def _kill_all(self) -> None:
        for pid in self.procs.read_text(encoding="ascii").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
