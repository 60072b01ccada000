"""Rights that the kernel refuses this process, each with its consequence and how to get it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from otel_oom.linux import launcher, procfs
from otel_oom.linux.process import ProcessDir
from otel_oom.linux.process_lookup import ProcessLookup

BPFFS: Final = Path("/sys/fs/bpf")
"""Mount point that systemd uses, and that all programs expect."""
_CAP_SYS_ADMIN: Final = 1 << 21
_CAP_DAC_OVERRIDE: Final = 1 << 1
_CAP_SYS_PTRACE: Final = 1 << 19


class Capability(Struct, frozen=True):
    """A capability: its name without ``CAP_``, the bits that grant it, and the loss without it."""

    name: str
    bits: int
    loss: str


BPF_CAPABILITIES: Final = (
    Capability("BPF", 1 << 39 | _CAP_SYS_ADMIN, "BPF programs can't be loaded"),
    Capability("PERFMON", 1 << 38 | _CAP_SYS_ADMIN, "BPF programs can't be loaded"),
)
_CAPABILITIES: Final = (
    *BPF_CAPABILITIES,
    Capability(
        "SYSLOG",
        1 << 34,
        "reports of kills and names of kernel functions can be missing",
    ),
    Capability(
        "SYS_PTRACE",
        _CAP_SYS_PTRACE,
        "executable, environment and user stack of victims are missing",
    ),
    Capability(
        "DAC_READ_SEARCH",
        1 << 2 | _CAP_DAC_OVERRIDE,
        "files of other users in /proc, tracefs and files of container runtimes can't be read",
    ),
)
CAPABILITY_NAMES: Final = tuple(f"CAP_{capability.name}" for capability in _CAPABILITIES)

_SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
_NO_COMMAND: Final = 0x7FFF
"""A command of bpf(2) that no kernel has: EINVAL, unless a filter refuses the call itself."""
_REFUSALS: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
_SECCOMP_FILTER: Final = "Seccomp:\t2"
_WHOLE_UID_MAP: Final = ["0", "0", "4294967295"]
_STATUS_BYTES: Final = 8192
_LABELS: Final = ("attr/apparmor/current", "attr/current")
_ENFORCED: Final = " (enforce)"
_SELINUX_TYPE: Final = 2
_CONTAINER_TYPES: Final = ("container_t", "container_init_t")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class MissingRight(Struct, frozen=True):
    """A right: its name, what is missing without it, and how to get it.

    ``of_source``: BPF needs it, so the error of loading a program says so too.
    """

    name: str
    loss: str
    advice: str
    of_source: bool = False


def find_missing_rights(proc: Path = Path("/proc")) -> Iterator[MissingRight]:
    """Return the rights that this process lacks."""
    if in_user_namespace(proc):
        yield MissingRight(
            "user namespace",
            "capabilities count within this user namespace only",
            launcher.leave_user_namespace(),
            of_source=True,
        )
    for capability in missing_capabilities(_CAPABILITIES):
        advice = launcher.grant_capabilities([capability.name])
        of_source = capability in BPF_CAPABILITIES
        yield MissingRight(f"CAP_{capability.name}", capability.loss, advice, of_source)
    if is_bpf_filtered():
        yield MissingRight(
            "bpf(2)", "a seccomp filter refuses it", launcher.lift_seccomp(), of_source=True
        )
    yield from _find_labels(proc)
    if not ProcessLookup(proc).usable:
        yield MissingRight(
            "process ids of the host",
            "processes of the host are not visible: events have what the kernel records alone",
            launcher.share_process_ids(),
        )


def missing_capabilities(capabilities: tuple[Capability, ...]) -> list[Capability]:
    """Return those that are not in the effective set."""
    status = ProcessDir("self").read_status()
    effective = status.effective_capabilities if status else 0
    return [capability for capability in capabilities if not effective & capability.bits]


def in_user_namespace(proc: Path = Path("/proc")) -> bool:
    """Return whether this process is in another user namespace than the host's."""
    return (procfs.read_text(proc / "self/uid_map", _STATUS_BYTES) or "").split() != _WHOLE_UID_MAP


def is_bpf_filtered() -> bool:
    """Return whether a seccomp filter refuses bpf(2), whatever this process may do.

    Profiles that do not know CAP_BPF, such as those of older runtimes, allow it to CAP_SYS_ADMIN.
    """
    number = _SYS_BPF.get(platform.machine())
    if number is None or _SECCOMP_FILTER not in (
        procfs.read_text("/proc/self/status", _STATUS_BYTES) or ""
    ):
        return False
    ctypes.set_errno(0)
    _LIBC.syscall(ctypes.c_long(number), ctypes.c_long(_NO_COMMAND), None, ctypes.c_long(0))
    return ctypes.get_errno() in _REFUSALS


def read_apparmor_profile(proc: Path = Path("/proc")) -> str | None:
    """Return the AppArmor profile that is enforced for this process."""
    label = _read_label(proc)
    return label.removesuffix(_ENFORCED) if label.endswith(_ENFORCED) else None


def _read_label(proc: Path) -> str:
    own = ProcessDir("self", proc)
    return next(filter(None, map(own.read_text, _LABELS)), "").strip("\n\0 ")


def _find_labels(proc: Path) -> Iterator[MissingRight]:
    """Yield the refusals of AppArmor and SELinux, of which each has a default for containers."""
    profile = read_apparmor_profile(proc)
    if profile:
        refused, losses = [], []
        if find_write_error(BPFFS):
            refused.append(f"writes below {BPFFS}")
            losses.append("kills while no agent runs are in the kernel log alone")
        if not can_read_other_processes(proc):
            refused.append("/proc of other processes")
            losses.append("executable, environment and user stack of victims are missing")
        if refused:
            loss = f"profile {profile} refuses {' and '.join(refused)}: {'; '.join(losses)}"
            yield MissingRight("AppArmor", loss, launcher.lift_apparmor())
    fields = _read_label(proc).split(":")
    if fields[_SELINUX_TYPE : _SELINUX_TYPE + 1] and fields[_SELINUX_TYPE] in _CONTAINER_TYPES:
        yield MissingRight(
            "SELinux",
            f"type {fields[_SELINUX_TYPE]} refuses bpf(2) and files of the host",
            launcher.lift_selinux(),
            of_source=True,
        )


def can_read_other_processes(proc: Path = Path("/proc")) -> bool:
    """Return whether what needs ptrace access can be read: the executable of init."""
    try:
        (proc / "1/exe").readlink()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def find_write_error(folder: Path) -> OSError | None:
    """Return why no folder can be made in ``folder``; access(2) ignores security modules."""
    probe = folder / f"otel-oom-probe-{os.getpid()}"
    try:
        probe.mkdir(mode=0o700)
    except OSError as error:
        return error
    with suppress(OSError):
        probe.rmdir()
    return None


def explain_refusal(error: OSError, path: Path) -> str:
    """Return how to get write access to ``path``, which ``error`` refused; empty if unknown."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        profile = read_apparmor_profile()
        if profile:
            return f"AppArmor's profile {profile} refuses it. {launcher.lift_apparmor()}"
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return launcher.grant_path(path, writable=True)
    return ""
