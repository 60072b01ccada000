"""Capabilities that loading BPF programs requires (capabilities(7))."""

from __future__ import annotations

from typing import Final

from otel_oom.capture.source import CaptureError
from otel_oom.linux.process import ProcessDir

_CAP_SYS_ADMIN: Final = 1 << 21
_CAP_PERFMON_AND_BPF: Final = 1 << 38 | 1 << 39


def require_bpf_capabilities() -> None:
    """Check for CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON, in the effective set.

    Raises:
        CaptureError: they are missing; says how to grant them.
    """
    status = ProcessDir("self").read_status()
    effective = status.effective_capabilities if status else 0
    both = effective & _CAP_PERFMON_AND_BPF == _CAP_PERFMON_AND_BPF
    if not (effective & _CAP_SYS_ADMIN or both):
        raise CaptureError(
            "This process may not load BPF programs. Run it as root (sudo), or give it the "
            "capabilities CAP_BPF and CAP_PERFMON (systemd: AmbientCapabilities=)."
        )
