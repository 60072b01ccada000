"""Notifications to the service manager (sd_notify(3))."""

from __future__ import annotations

import socket
from contextlib import suppress


def send_notification(address: str, state: str) -> None:
    """Send ``state`` to the manager's socket ``address``; do nothing if that is empty."""
    if not address:
        return
    with (
        suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager,
    ):
        manager.sendto(state.encode(), address)
