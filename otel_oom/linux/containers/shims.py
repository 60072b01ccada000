"""The processes that stay beside a running container: its monitor is an ancestor of all in it.

A monitor tells where the container's bundle is, whatever folders its runtime is set to use, and
which container it is where no cgroup has its name (rootless, without a controller).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_oom.linux.containers.bundle_dirs import BundleDir, below
from otel_oom.linux.containers.cgroup_id import containers_of
from otel_oom.linux.process import ProcessDir, parse_cgroups

_MOST_ANCESTORS: Final = 64
_CONMON: Final = "conmon"
_SHIM: Final = "containerd-shim"
"""As the kernel cuts the names ``containerd-shim`` and ``containerd-shim-runc-v2``."""

_NAMES: Final = frozenset({_CONMON, _SHIM})


@dataclass(frozen=True, slots=True)
class Shim:
    """podman's and CRI-O's conmon, or containerd's and Docker's shim.

    conmon is there for one container ``alone``, whose ``name`` it may know, and a folder of
    podman's of which a reboot leaves nothing, ``run_lists``; a shim has all of a pod.
    """

    container_id: str
    place: BundleDir
    alone: bool
    name: str | None = None
    run_lists: Path | None = None


def above(pid: int, proc: Path = Path("/proc")) -> Iterator[Shim]:
    """The monitors among ``pid`` and its ancestors, the nearest first."""
    for ancestor, name in _ancestors(pid, proc):
        monitor = _monitor(ancestor, name, proc)
        if monitor:
            yield monitor


def any_above(pid: int, proc: Path = Path("/proc")) -> bool:
    """Whether ``pid`` or an ancestor has a monitor's name; no process's memory is looked into."""
    return any(name in _NAMES for _, name in _ancestors(pid, proc))


def running(proc: Path = Path("/proc")) -> Iterator[Shim]:
    """The monitors that run now."""
    for entry in proc.iterdir():
        if entry.name.isdecimal():
            stat = ProcessDir(entry.name, proc).read_stat()
            monitor = _monitor(int(entry.name), stat.comm, proc) if stat else None
            if monitor:
                yield monitor


def _ancestors(pid: int, proc: Path) -> Iterator[tuple[int, str]]:
    """``pid`` and its ancestors, each with the kernel's name for it."""
    for _ in range(_MOST_ANCESTORS):
        stat = ProcessDir(pid, proc).read_stat() if pid > 1 else None
        if stat is None:
            return
        yield pid, stat.comm
        pid = stat.ppid


def _monitor(pid: int, name: str, proc: Path) -> Shim | None:
    if name not in _NAMES:
        return None
    folder = proc / str(pid)
    process = ProcessDir(pid, proc)
    words = process.read_command_line()
    found = _conmon(words, folder) if name == _CONMON else _shim(words, folder)
    # A process inside of a container may take a monitor's name, and can't leave its cgroup.
    cgroups = parse_cgroups(process.read_text("cgroup") or "")
    inside = {c.id for entry in cgroups for c in containers_of(entry.path)}
    return found if found and found.container_id not in inside else None


def _conmon(words: list[str], folder: Path) -> Shim | None:
    """``conmon -c ID -b BUNDLE -n NAME -p PIDFILE …`` (conmon(8))."""
    container_id, bundle = _after("-c", words), Path(_after("-b", words))
    if not container_id or container_id not in bundle.parts or not bundle.is_absolute():
        return None
    at = bundle.parts.index(container_id)
    pid_file = Path(_after("-p", words))
    of_run = container_id in pid_file.parts and pid_file.is_absolute()
    return Shim(
        container_id,
        BundleDir(
            _root(folder, bundle), Path(*bundle.parts[:at]), "/".join(bundle.parts[at + 1 :])
        ),
        alone=True,
        name=_after("-n", words) or None,
        run_lists=Path(*pid_file.parts[: pid_file.parts.index(container_id)]) if of_run else None,
    )


def _shim(words: list[str], folder: Path) -> Shim | None:
    """``containerd-shim-runc-v2 -namespace NS -id ID …``, in the bundle as its working folder."""
    container_id = _after("-id", words)
    try:
        bundle = (folder / "cwd").readlink()
    except OSError:
        return None
    if not container_id or bundle.name != container_id:
        return None
    return Shim(container_id, BundleDir(_root(folder, bundle), bundle.parent), alone=False)


def _after(option: str, words: list[str]) -> str:
    try:
        return words[words.index(option) + 1]
    except (ValueError, IndexError):
        return ""


def _root(folder: Path, bundle: Path) -> Path:
    """A root folder that has the process's bundle, and outlives the process where one does.

    Rootless podman has mounts of its own, and its folders lie in its user's home all the same.
    """
    for lasting, root in (("self", Path("/")), ("1", folder.parent / "1/root")):
        try:
            if (folder / "ns/mnt").readlink() == (folder.parent / lasting / "ns/mnt").readlink():
                return root
            if below(root, bundle).samefile(below(folder / "root", bundle)):
                return root
        except OSError:
            continue
    return folder / "root"
