"""The cluster's own view of this machine: mounts and a network that nothing else shares.

The process is in new mount and network namespaces already (`unshare`).
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.cluster import plan
from tests.cluster.plan import ClusterFolder
from tests.cluster.settings import SYSCTLS

_OWN_FOLDERS: Final = (
    str(plan.ROOT_FOLDER),
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
"""Folders of the components that are on disk, not in memory."""


def make_private_mounts(folder: ClusterFolder) -> None:
    """Give the fixed paths of a node's components files of their own."""
    _mount("tmpfs", "/run", "tmpfs")
    # Folders that the components make below /var are made here; what the machine has stays.
    writable = folder.path / "var"
    writable.mkdir()
    _mount("tmpfs", writable, "tmpfs")
    upper, work = writable / "upper", writable / "work"
    upper.mkdir()
    work.mkdir()
    _mount("overlay", "/var", "overlay", f"lowerdir=/var,upperdir={upper},workdir={work}")
    for target in _OWN_FOLDERS:
        own = folder.path / "folders" / target.replace("/", "-")
        own.mkdir(parents=True)
        Path(target).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", own, target)
    for name, value in SYSCTLS.items():
        setting = folder.path / "sysctls" / name
        setting.parent.mkdir(parents=True, exist_ok=True)
        setting.write_text(f"{value}\n", encoding="ascii")
        _run("mount", "--bind", setting, Path("/proc/sys") / name)
    _mount("bpf", "/sys/fs/bpf", "bpf")
    if not Path("/sys/kernel/tracing").is_mount():
        _mount("tracefs", "/sys/kernel/tracing", "tracefs")
    # A mount of the kubelet reaches the containers that ask for it.
    _run("mount", "--make-rshared", "/")


def make_private_network(folder: ClusterFolder) -> None:
    """Give the node an address in a network that leads nowhere else."""
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", "node0", "type", "bridge")
    _run("ip", "address", "add", f"{plan.NODE_ADDRESS}/24", "dev", "node0")
    _run("ip", "link", "set", "node0", "up")
    _run("ip", "route", "add", "default", "dev", "node0")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    resolver = folder.path / "resolv.conf"
    resolver.write_text(f"nameserver {plan.NODE_ADDRESS}\n", encoding="ascii")
    _run("mount", "--bind", resolver, "/etc/resolv.conf")


def _mount(source: str, target: str | Path, kind: str, options: str = "rw") -> None:
    _run("mount", "-t", kind, "-o", options, source, target)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=30)
