"""Open the kernel log by what this process may use: /dev/kmsg, else syslog(2)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_oom.capture.kmsg.reader import DEVICE, KmsgReader
from otel_oom.capture.kmsg.syslog_reader import NoTimesError, SyslogReader
from otel_oom.capture.source import CaptureError
from otel_oom.linux import launcher
from otel_oom.linux.rights import in_user_namespace

LogReader = KmsgReader | SyslogReader

_SYSLOG: Final = "syslog(2)"


def open_kernel_log(device: Path = DEVICE, *, from_start: bool = False) -> LogReader:
    """Open the log at its end, or with ``from_start`` at its oldest line.

    Raises:
        CaptureError: the log can't be read here; says how to get access.
    """
    try:
        return KmsgReader(device, from_start=from_start)
    except OSError as error:
        reasons = f"{device}: {error.strerror}"
    try:
        return SyslogReader(from_start=from_start)
    except NoTimesError as error:
        raise CaptureError(
            f"The kernel log can't be read ({reasons}; {_SYSLOG}: {error.strerror}). Turn times "
            "on: echo Y > /sys/module/printk/parameters/time on the host, or boot with "
            "printk.time=1"
        ) from error
    except OSError as error:
        reasons = f"{reasons}; {_SYSLOG}: {error.strerror}"
    raise CaptureError(f"The kernel log can't be read ({reasons}). {_advise()}")


def _advise() -> str:
    if in_user_namespace():
        return launcher.leave_user_namespace()
    if os.path.lexists("/proc/sys/kernel/printk"):
        return f"{launcher.grant_capabilities(['SYSLOG'])}. kernel.dmesg_restrict=1 requires it"
    return "This kernel has no log: boot one with CONFIG_PRINTK=y"
