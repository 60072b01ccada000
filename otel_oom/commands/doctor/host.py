"""What the host lets an agent keep and see, and how it is set to deal with a want of memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from otel_oom.capture.bpf.bpffs import BPFFS, is_bpffs
from otel_oom.capture.source import PIN_DIR
from otel_oom.commands.doctor.check import OK, WARN, Check
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.vm_sysctl import describe_settings
from otel_oom.snapshot import host_stats


def on_host() -> Iterator[Check]:
    """The places that an agent needs, and the kernel's settings."""
    yield _bpffs()
    yield _pins()
    yield _memcg()
    yield from _oom_settings()


def _bpffs() -> Check:
    if is_bpffs(BPFFS):
        return Check("bpffs", OK, str(BPFFS))
    advice = f"Capture works without it; to pin, mount it: mount -t bpf bpf {BPFFS}"
    return Check("bpffs", WARN, f"not mounted at {BPFFS}", advice)


def _pins() -> Check:
    """What goes on in the kernel, and whether there is an agent to take it."""
    try:
        folder = PIN_DIR.stat()
        pinned = any(PIN_DIR.iterdir())
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except FileNotFoundError:
        pinned = False
    except OSError as error:
        return Check("pins", OK, f"{PIN_DIR}: {error.strerror}")
    if not pinned:
        return Check("pins", OK, f"none in {PIN_DIR}: kills are captured while an agent runs")
    device = folder.st_dev
    held = f" {os.major(device):02x}:{os.minor(device):02x}:{folder.st_ino} "
    if held in locks:
        return Check("pins", OK, f"in {PIN_DIR}, for the agent that runs and the next one")
    advice = (
        "The kernel records kills, and no agent takes them. Start it: otel-oom run; or end that: "
        "otel-oom unpin"
    )
    return Check("pins", WARN, f"in {PIN_DIR}, without an agent", advice)


def _memcg() -> Check:
    name, loss = "memory cgroups", "Limits and usage of cgroups will be missing"
    files = CgroupMount.find()
    if files is None:
        advice = f"{loss}: mount -t cgroup2 none /sys/fs/cgroup"
        return Check(name, WARN, "none mounted here", advice)
    where = f"v{1 if files.v1 else 2} at {files.mount}"
    if _has_memory_controller(files):
        return Check(name, OK, where)
    advice = (
        f"{loss}. See that nothing is mounted over it, and that the memory controller is on "
        "(boot with cgroup_enable=memory)."
    )
    return Check(name, WARN, f"{where} has no memory controller", advice)


def _has_memory_controller(files: CgroupMount) -> bool:
    """Whether it is there in fact: another mount may lie over this one."""
    if files.v1:
        return (files.mount / "memory.limit_in_bytes").exists()
    try:
        controllers = (files.mount / "cgroup.controllers").read_text(encoding="ascii")
    except OSError:
        return False
    return "memory" in controllers.split()


def _oom_settings() -> Iterator[Check]:
    for one in describe_settings(
        host_stats.read_vm_settings(), host_stats.read_host_memory().memory
    ):
        state = WARN if one.advice else OK
        yield Check(one.name, state, f"{one.value}: {one.sentence}", one.advice)
