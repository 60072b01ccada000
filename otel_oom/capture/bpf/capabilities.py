"""Rights that loading BPF programs requires (capabilities(7), seccomp(2))."""

from __future__ import annotations

from otel_oom.capture.source import CaptureError
from otel_oom.linux import launcher
from otel_oom.linux.rights import (
    BPF_CAPABILITIES,
    in_user_namespace,
    is_bpf_filtered,
    missing_capabilities,
)


def require_bpf_rights() -> None:
    """Check for CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN, and for a filter of system calls.

    Raises:
        CaptureError: one is missing; says how to grant it.
    """
    if missing_capabilities(BPF_CAPABILITIES):
        advice = launcher.grant_capabilities(capability.name for capability in BPF_CAPABILITIES)
        raise CaptureError(f"This process may not load BPF programs. {advice}")
    if is_bpf_filtered():
        raise CaptureError(
            f"A seccomp filter refuses bpf(2) to this process. {launcher.lift_seccomp()}"
        )


def explain_refused_load() -> str:
    """Return why the kernel loads no BPF programs although this process has the capabilities."""
    if in_user_namespace():
        return f"it is in a user namespace. {launcher.leave_user_namespace()}"
    return (
        "a security module (AppArmor, SELinux, lockdown) or a setting of the host forbids it. "
        "Run it on the host, or in a privileged container"
    )
