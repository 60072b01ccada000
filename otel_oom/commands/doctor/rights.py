"""Checks of rights: each missing one with what it costs and how to get it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otel_oom.capture.bpf.bpffs import is_bpffs
from otel_oom.capture.source import PIN_DIR
from otel_oom.commands.doctor import OK, WARN, Check
from otel_oom.enrich.host import host_attributes
from otel_oom.linux import launcher
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.containers.bundle_dirs import find_bundle_dirs, find_init_root
from otel_oom.linux.gfp_flags import GfpFlagNames
from otel_oom.linux.launcher import grant_path
from otel_oom.linux.rights import (
    BPFFS,
    CAPABILITY_NAMES,
    explain_refusal,
    find_missing_rights,
    find_write_error,
)

_TRACING: Final = Path("/sys/kernel/tracing")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_CONTAINERD: Final = Path("/run/containerd/io.containerd.runtime.v2.task")
_MACHINE_ID: Final = Path("/etc/machine-id")


def check_rights() -> Iterator[Check]:
    """Check capabilities, filters, security modules, and in a container its mounts."""
    missing = list(find_missing_rights())
    for right in missing:
        yield Check(right.name, WARN, f"missing: {right.loss}", right.advice)
    if not missing:
        yield Check("rights", OK, f"{' '.join(CAPABILITY_NAMES)}, and no filter refuses bpf(2)")
    yield from _pinning()
    if launcher.current_launcher().in_container:
        yield from _mounts()


def _pinning() -> Iterator[Check]:
    """Check that a folder can be made in bpffs; nothing else shows what a security module does."""
    if not is_bpffs(BPFFS):
        return
    # The agent's own folder, if it exists; its parent may belong to root alone.
    folders = (PIN_DIR, PIN_DIR.parent, BPFFS)
    try:
        folder = next(folder for folder in folders if folder.exists())
        error = find_write_error(folder)
    except OSError as refusal:
        error = refusal
    if error:
        detail = f"not allowed ({error.strerror}): kills are captured only while an agent runs"
        yield Check("pinning", WARN, detail, explain_refusal(error, BPFFS))


def _mounts() -> Iterator[Check]:
    """Check the files of the host that a container sees only if they are handed in."""
    if GfpFlagNames().format_mask(1) is None:
        yield Check("tracefs", WARN, "missing: gfp flags have no names", grant_path(_TRACING))
    mount = CgroupMount.find()
    if mount and mount.root not in {"/", ""} and not mount.root.startswith("/.."):
        detail = "those of this container alone: limits and usage of others are missing"
        yield Check("cgroups", WARN, detail, grant_path(_CGROUPS))
    root = find_init_root(Path("/proc"))
    if not any(True for each in {Path("/"), root} for _ in find_bundle_dirs(each)):
        detail = "no folder of a runtime: containers have an id, and no names or pods"
        yield Check("container runtime", WARN, detail, grant_path(_CONTAINERD))
    if "host.id" not in host_attributes():
        yield Check("machine id", WARN, "missing: no host.id", grant_path(_MACHINE_ID))
