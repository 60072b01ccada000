"""Shims: the processes that stay beside a running container, as ancestors of all in it.

A shim knows where its container's bundle is, whatever its runtime's configuration. It also names
the container where no cgroup does (rootless, without a controller).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux.containers.bundle_dirs import BundleDir, path_in_root
from otel_oom.linux.containers.cgroup_id import find_container_ids
from otel_oom.linux.process import ProcessDir, parse_cgroups

_MAX_ANCESTORS: Final = 64
_CONMON: Final = "conmon"
_SHIM: Final = "containerd-shim"
"""The names ``containerd-shim`` and ``containerd-shim-runc-v2``, as the kernel truncates them."""

_NAMES: Final = frozenset({_CONMON, _SHIM})


class Shim(Struct, frozen=True):
    """A conmon of podman or CRI-O, or a shim of containerd or Docker.

    A conmon serves a ``single_container``. It may know its ``name`` and podman's ``runroot``, a
    directory that is empty after a reboot. A containerd shim serves all containers of a pod.
    """

    container_id: str
    bundle_dir: BundleDir
    single_container: bool
    name: str | None = None
    runroot: Path | None = None


def find_shims(pid: int, proc: Path = Path("/proc")) -> Iterator[Shim]:
    """Return the shims among ``pid`` and its ancestors, the nearest first."""
    for ancestor, name in _ancestors(pid, proc):
        shim = _read_shim(ancestor, name, proc)
        if shim:
            yield shim


def has_shim(pid: int, proc: Path = Path("/proc")) -> bool:
    """Return whether ``pid`` or an ancestor has a shim's name; reads no process's memory."""
    return any(name in _NAMES for _, name in _ancestors(pid, proc))


def list_shims(proc: Path = Path("/proc")) -> Iterator[Shim]:
    """Return the shims that run now."""
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            stat = ProcessDir(entry.name, proc).read_stat()
            shim = _read_shim(int(entry.name), stat.comm, proc) if stat else None
            if shim:
                yield shim


def _ancestors(pid: int, proc: Path) -> Iterator[tuple[int, str]]:
    for _ in range(_MAX_ANCESTORS):
        stat = ProcessDir(pid, proc).read_stat() if pid > 1 else None
        if stat is None:
            return
        yield pid, stat.comm
        pid = stat.ppid


def _read_shim(pid: int, name: str, proc: Path) -> Shim | None:
    if name not in _NAMES:
        return None
    folder, process = proc / str(pid), ProcessDir(pid, proc)
    words = process.read_command_line()
    shim = _conmon(words, folder) if name == _CONMON else _containerd_shim(words, folder)
    # A process inside a container can take a shim's name, but can't leave its cgroup.
    cgroups = parse_cgroups(process.read_text("cgroup") or "")
    inside = {each.id for entry in cgroups for each in find_container_ids(entry.path)}
    return shim if shim and shim.container_id not in inside else None


def _conmon(words: list[str], folder: Path) -> Shim | None:
    """Parse ``conmon -c ID -b BUNDLE -n NAME -p PIDFILE …`` (conmon(8))."""
    container_id, bundle = _option("-c", words), Path(_option("-b", words))
    if not container_id or container_id not in bundle.parts or not bundle.is_absolute():
        return None
    parent, child = _split_at(bundle, container_id)
    pid_file = Path(_option("-p", words))
    in_runroot = container_id in pid_file.parts and pid_file.is_absolute()
    return Shim(
        container_id,
        BundleDir(_lasting_root(folder, bundle), parent, str(child) if child.parts else ""),
        single_container=True,
        name=_option("-n", words) or None,
        runroot=_split_at(pid_file, container_id)[0] if in_runroot else None,
    )


def _containerd_shim(words: list[str], folder: Path) -> Shim | None:
    """Parse ``containerd-shim-runc-v2 -namespace NS -id ID …``, which runs in its bundle."""
    container_id = _option("-id", words)
    try:
        bundle = (folder / "cwd").readlink()
    except OSError:
        return None
    if not container_id or bundle.name != container_id:
        return None
    bundle_dir = BundleDir(_lasting_root(folder, bundle), bundle.parent)
    return Shim(container_id, bundle_dir, single_container=False)


def _option(name: str, words: list[str]) -> str:
    try:
        return words[words.index(name) + 1]
    except (ValueError, IndexError):
        return ""


def _split_at(path: Path, part: str) -> tuple[Path, Path]:
    index = path.parts.index(part)
    return Path(*path.parts[:index]), Path(*path.parts[index + 1 :])


def _lasting_root(folder: Path, bundle: Path) -> Path:
    """Return a root directory that has the bundle, and outlives the process if there is one.

    Rootless podman has its own mounts, but its directories are in its user's home all the same.
    """
    for pid, root in (("self", Path("/")), ("1", folder.parent / "1/root")):
        try:
            if (folder / "ns/mnt").readlink() == (folder.parent / pid / "ns/mnt").readlink():
                return root
            if path_in_root(root, bundle).samefile(path_in_root(folder / "root", bundle)):
                return root
        except OSError:
            continue
    return folder / "root"
