"""Variables of systemd: the watchdog and the notification socket."""

from __future__ import annotations

import pytest

from otel_oom.config.systemd import read_notify_socket, read_watchdog_interval_s


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_interval_is_half_of_the_timeout(environ: dict[str, str], seconds: float | None) -> None:
    """As in sd_watchdog_enabled(3), and only for the process that is meant."""
    assert read_watchdog_interval_s(environ, pid=7) == seconds


@pytest.mark.parametrize(
    ("value", "address"), [("", ""), ("/run/notify", "/run/notify"), ("@abstract", "\0abstract")]
)
def test_notify_socket(value: str, address: str) -> None:
    assert read_notify_socket({"NOTIFY_SOCKET": value}) == address
