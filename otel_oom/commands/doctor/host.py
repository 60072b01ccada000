"""Checks of the host: bpffs, pins, memory cgroups, kernel settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.bpffs import advise_bpffs, is_bpffs
from otel_oom.capture.source import PIN_DIR
from otel_oom.commands.doctor import OK, WARN, Check
from otel_oom.linux import launcher
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.rights import BPFFS
from otel_oom.linux.vm_sysctl import describe_settings
from otel_oom.snapshot import host_stats

_CGROUPS: Final = Path("/sys/fs/cgroup")


def check_host() -> Iterator[Check]:
    """Check the file systems that the agent uses, and the kernel settings."""
    yield _bpffs()
    yield _pins()
    yield _memcg()
    yield from _kernel_settings()


def _bpffs() -> Check:
    if is_bpffs(BPFFS):
        return Check("bpffs", OK, str(BPFFS))
    advice = f"Capture works without it, but pins nothing. {advise_bpffs()}"
    return Check("bpffs", WARN, f"not mounted at {BPFFS}", advice)


def _pins() -> Check:
    """Check for pinned BPF programs, and for an agent that reads what they record."""
    try:
        folder = PIN_DIR.stat()
        pinned = any(PIN_DIR.iterdir())
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        pinned = False
    except OSError as error:
        return Check("pins", OK, f"{PIN_DIR}: {error.strerror}")
    if not pinned:
        detail = f"none in {PIN_DIR}: kills are captured only while an agent runs"
        return Check("pins", OK, detail)
    device = folder.st_dev
    lock = f" {os.major(device):02x}:{os.minor(device):02x}:{folder.st_ino} "
    if lock in locks:
        return Check("pins", OK, f"in {PIN_DIR}, used by the running agent")
    advice = (
        "The kernel records kills, and no agent reads them. Start it: otel-oom run; or remove the "
        "pins: otel-oom unpin"
    )
    return Check("pins", WARN, f"in {PIN_DIR}, without an agent", advice)


def _memcg() -> Check:
    name, loss = "memory cgroups", "Limits and usage of cgroups will be missing"
    mount = CgroupMount.find()
    if mount is None:
        advice = f"{loss}. {_advise_cgroups()}"
        return Check(name, WARN, "none mounted here", advice)
    where = f"v{1 if mount.v1 else 2} at {mount.mount}"
    if _has_memory_controller(mount):
        return Check(name, OK, where)
    advice = (
        f"{loss}. Check that nothing is mounted over it, and that the memory controller is on "
        "(boot with cgroup_enable=memory)."
    )
    return Check(name, WARN, f"{where} has no memory controller", advice)


def _advise_cgroups() -> str:
    if launcher.current_launcher().in_container:
        return launcher.grant_path(_CGROUPS)
    return f"Mount them: mount -t cgroup2 none {_CGROUPS}"


def _has_memory_controller(mount: CgroupMount) -> bool:
    """Return whether the controller is really there: another mount may cover this one."""
    if mount.v1:
        return (mount.mount / "memory.limit_in_bytes").exists()
    try:
        controllers = (mount.mount / "cgroup.controllers").read_text(encoding="ascii")
    except OSError:
        return False
    return "memory" in controllers.split()


def _kernel_settings() -> Iterator[Check]:
    for sysctl in describe_settings(
        host_stats.read_vm_settings(), host_stats.read_host_memory().memory
    ):
        state = WARN if sysctl.advice else OK
        yield Check(sysctl.name, state, f"{sysctl.value}: {sysctl.sentence}", sysctl.advice)
