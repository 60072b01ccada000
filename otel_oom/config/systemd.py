"""Variables by which systemd passes its notification socket and its watchdog."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

from otel_oom.model.units import US_PER_S

_LOG = logging.getLogger(__name__)


def read_notify_socket(environ: Mapping[str, str]) -> str:
    """Return the service manager's address; empty without one (sd_notify(3))."""
    address = environ.get("NOTIFY_SOCKET", "")
    # A leading @ stands for an abstract address.
    return f"\0{address[1:]}" if address.startswith("@") else address


def read_watchdog_interval_s(environ: Mapping[str, str], pid: int | None = None) -> float | None:
    """Return half of the watchdog's timeout in seconds (sd_watchdog_enabled(3)).

    ``None`` without ``WATCHDOG_USEC``, or if ``WATCHDOG_PID`` names another process.
    """
    watched_pid = environ.get("WATCHDOG_PID", "")
    if watched_pid and watched_pid != str(os.getpid() if pid is None else pid):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec:
        return None
    if not (usec.isascii() and usec.isdigit() and int(usec)):
        _LOG.warning("Watchdog is off: WATCHDOG_USEC=%r is no number of microseconds", usec)
        return None
    return int(usec) / US_PER_S / 2
