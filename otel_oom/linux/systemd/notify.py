"""Notifications to the service manager (sd_notify(3))."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

TIMEOUT_S: Final = 1.0


def send_notification(address: str, state: str, timeout_s: float = TIMEOUT_S) -> None:
    """Send ``state`` to the manager's socket ``address``; do nothing if that is empty.

    Its queue may be full, since every process of the host may send to it: after ``timeout_s``
    seconds nothing is sent.
    """
    if not address:
        return
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.settimeout(timeout_s)
        manager.sendto(state.encode(), address)
