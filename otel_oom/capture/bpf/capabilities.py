"""Whether this process may load BPF programs at all."""

from __future__ import annotations

from typing import Final

from otel_oom.capture.source import CaptureError
from otel_oom.linux.process import ProcessDir

_CAP_SYS_ADMIN: Final = 21
_CAP_PERFMON: Final = 38
_CAP_BPF: Final = 39


def require_bpf_capabilities() -> None:
    """See that this process has CAP_SYS_ADMIN, or CAP_BPF and CAP_PERFMON, in effect.

    Raises:
        CaptureError: it has not; says how to give them to it.
    """
    if not _may_load_bpf():
        raise CaptureError(
            "This process may not load BPF programs. Run it as root (sudo), or give it the "
            "capabilities CAP_BPF and CAP_PERFMON (systemd: AmbientCapabilities=)."
        )


def _may_load_bpf() -> bool:
    status = ProcessDir("self").read_status()
    effective = status.effective_capabilities if status else 0
    both = 1 << _CAP_PERFMON | 1 << _CAP_BPF
    return bool(effective >> _CAP_SYS_ADMIN & 1) or effective & both == both
