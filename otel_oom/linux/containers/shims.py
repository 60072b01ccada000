"""Shims: the processes that stay beside a running container, as ancestors of all in it.

A shim knows where its container's bundle is, whatever its runtime's configuration. It also names
the container where no cgroup does (rootless, without a controller).

Any process can take a shim's name and arguments. So one of the host is root in the namespaces of
init, and in no container. Another one is believed only about the cgroups of its user or container.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from otel_oom.linux.containers.bundle_dirs import BundleDir, find_init_root
from otel_oom.linux.containers.cgroup_id import CONTAINER_ID, find_container_ids, find_guest
from otel_oom.linux.dying_process import has_memory
from otel_oom.linux.process import ProcessDir, memory_cgroup_path, parse_cgroups
from otel_oom.model.types import Task

_MAX_ANCESTORS: Final = 64
_MAX_SHIMS: Final = 8
_CONMON: Final = "conmon"
_SHIM: Final = "containerd-shim"
"""The names ``containerd-shim`` and ``containerd-shim-runc-v2``, as the kernel truncates them."""

_NAMES: Final = frozenset({_CONMON, _SHIM})


class Shim(Struct, frozen=True):
    """A conmon of podman or CRI-O, or a shim of containerd or Docker.

    A conmon serves a ``single_container``. It may know its ``name`` and podman's ``runroot``, a
    directory that is empty after a reboot. A containerd shim serves all containers of a pod.
    ``outer`` is the id of the container in which the shim itself runs, or the cgroup of its guest.
    """

    container_id: str
    bundle_dir: BundleDir
    single_container: bool
    name: str | None = None
    runroot: Path | None = None
    outer: str | None = None

    @property
    def is_host(self) -> bool:
        """True for a shim of the host's own runtimes, which is believed about all cgroups."""
        return self.outer is None and not self.bundle_dir.uid

    def find_scope(self, cgroup: str) -> str | None:
        """Return the cgroup around ``cgroup`` below which the shim is believed, if any."""
        scope = self.bundle_dir.scope
        if self.outer:
            guest = find_guest(cgroup)
            around = {each.id: each.cgroup for each in find_container_ids(cgroup)}
            scope = {**around, guest: guest}.get(self.outer, cgroup)
        return scope if cgroup.startswith(f"{scope}/") else None


def find_shims(task: Task, proc: Path = Path("/proc")) -> list[Shim]:
    """Return the shims among a task's ancestors: the host's, then others; the nearest first."""
    named = [(ancestor, name) for ancestor, name in _ancestors(task, proc) if name in _NAMES]
    # A container can have any number of them, below that of the host.
    shims = [_read_shim(ancestor, name, proc) for ancestor, name in named[-_MAX_SHIMS:]]
    return sorted(filter(None, shims), key=lambda shim: not shim.is_host)


def has_shim(task: Task, proc: Path = Path("/proc")) -> bool:
    """Return whether an ancestor of a task has a shim's name; reads no process's memory."""
    return any(name in _NAMES for _, name in _ancestors(task, proc))


def list_shims(proc: Path = Path("/proc")) -> Iterator[Shim]:
    """Return the shims that run now."""
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            # Any of them can be a victim just now.
            comm = ProcessDir(entry.name, proc).read_comm()
            if shim := _read_shim(int(entry.name), comm, proc):
                yield shim


def _ancestors(task: Task, proc: Path) -> Iterator[tuple[int, str]]:
    """Return pid and name of the ancestors; the task itself may be gone.

    Its own ``stat`` is read only where its parent is unknown and its memory is gone.
    """
    pid, started_ns = task.ppid or 0, task.start_boottime_ns
    if not pid and task.tgid and not has_memory(ProcessDir(task.tgid, proc)):
        pid = task.tgid
    for _ in range(_MAX_ANCESTORS):
        stat = ProcessDir(pid, proc).read_stat() if pid > 1 else None
        # A process that started after the task is a later one with the pid of its parent.
        if stat is None or (started_ns and (stat.start_boottime_ns or 0) > started_ns):
            return
        yield pid, stat.comm
        pid = stat.ppid


def _read_shim(pid: int, name: str, proc: Path) -> Shim | None:
    if name not in _NAMES:
        return None
    process = ProcessDir(pid, proc)
    status, outer = process.read_status(), _find_outer(process)
    uid = status.uid if status else None
    if uid is None or (not uid and outer is None and not _is_in_init_namespaces(process, proc)):
        return None
    root = find_init_root(proc) if outer is None else proc / str(pid) / "root"
    bundle_dir = BundleDir(root, Path(), uid=uid if outer is None else 0)
    words = process.read_command_line()
    if name == _CONMON:
        return _conmon(words, bundle_dir, outer)
    return _containerd_shim(words, process, bundle_dir, outer)


def _find_outer(process: ProcessDir) -> str | None:
    """Return the container or guest that a process is in, by its memory cgroup first.

    A process in a container can take a shim's name, but can't leave its cgroups.
    """
    text = process.read_text("cgroup") or ""
    paths = [memory_cgroup_path(text) or "", *(entry.path for entry in parse_cgroups(text))]
    ids = ([find_guest(path), *(each.id for each in find_container_ids(path))] for path in paths)
    return next((found[-1] for found in ids if found[-1]), None)


def _is_in_init_namespaces(process: ProcessDir, proc: Path) -> bool:
    for kind in ("user", "mnt"):
        inode = process.namespace_inode(kind)
        # Without the right to read init's, only this agent's own are known to be trusted.
        references = (ProcessDir(pid, proc).namespace_inode(kind) for pid in (1, "self"))
        if inode is None or inode != next(filter(None, references), None):
            return False
    return True


def _conmon(words: list[str], bundle_dir: BundleDir, outer: str | None) -> Shim | None:
    """Parse ``conmon -c ID -b BUNDLE -n NAME -p PIDFILE …`` (conmon(8))."""
    container_id, bundle = _option("-c", words), Path(_option("-b", words))
    if (
        not CONTAINER_ID.fullmatch(container_id)
        or container_id not in bundle.parts
        or not bundle.is_absolute()
    ):
        return None
    parent, child = _split_at(bundle, container_id)
    pid_file = Path(_option("-p", words))
    in_runroot = container_id in pid_file.parts and pid_file.is_absolute()
    return Shim(
        container_id,
        replace(bundle_dir, parent=parent, child=str(child) if child.parts else ""),
        single_container=True,
        name=_option("-n", words) or None,
        runroot=_split_at(pid_file, container_id)[0] if in_runroot else None,
        outer=outer,
    )


def _containerd_shim(
    words: list[str], process: ProcessDir, bundle_dir: BundleDir, outer: str | None
) -> Shim | None:
    """Parse ``containerd-shim-runc-v2 -namespace NS -id ID …``, which runs in its bundle."""
    container_id = _option("-id", words)
    try:
        bundle = Path(process.path, "cwd").readlink()
    except OSError:
        return None
    if not container_id or bundle.name != container_id:
        return None
    bundle_dir = replace(bundle_dir, parent=bundle.parent)
    return Shim(container_id, bundle_dir, single_container=False, outer=outer)


def _option(name: str, words: list[str]) -> str:
    try:
        return words[words.index(name) + 1]
    except (ValueError, IndexError):
        return ""


def _split_at(path: Path, part: str) -> tuple[Path, Path]:
    index = path.parts.index(part)
    return Path(*path.parts[:index]), Path(*path.parts[index + 1 :])
