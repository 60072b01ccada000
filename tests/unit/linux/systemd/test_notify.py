"""Notifications to a service manager that reads them, or does not."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from otel_oom.linux.systemd.notify import send_notification

LIMIT_S = 20.0


@pytest.mark.parametrize("is_abstract", [False, True])
def test_the_manager_gets_the_state(tmp_path: Path, *, is_abstract: bool) -> None:
    address = f"\0{tmp_path}" if is_abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(LIMIT_S)
        send_notification(address, "READY=1")
        assert manager.recv(100) == b"READY=1"


def test_a_manager_whose_queue_is_full_delays_nothing(tmp_path: Path) -> None:
    """Any process of the host may fill it: systemd's socket is open to all."""
    address = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood,
    ):
        manager.bind(address)
        flood.settimeout(0.0)
        with suppress(BlockingIOError):
            while True:
                flood.sendto(b"x", address)
        sender = threading.Thread(
            target=send_notification, args=(address, "WATCHDOG=1", 0.01), daemon=True
        )
        sender.start()
        sender.join(LIMIT_S)
        assert not sender.is_alive()


@pytest.mark.parametrize("address", ["", "/nowhere/notify"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    send_notification(address, "READY=1")
