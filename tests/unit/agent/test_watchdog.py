"""The heartbeat: when it is due, and what stops it."""

from __future__ import annotations

import math
import threading
import time

import pytest

from otel_oom.agent.liveness import Liveness
from otel_oom.agent.watchdog import Watchdog
from otel_oom.config.systemd import read_watchdog_interval_s


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
def test_it_beats_at_half_of_what_the_manager_allows(
    environ: dict[str, str], seconds: float | None
) -> None:
    """As sd_watchdog_enabled(3) has it, and only when this process is the one that is meant."""
    assert read_watchdog_interval_s(environ, pid=7) == seconds


def test_without_a_watchdog_nothing_is_sent_and_nothing_waited_for() -> None:
    """The loop then sleeps for as long as it likes."""
    sent: list[str] = []
    heartbeat = Watchdog(None, lambda: None, sent.append)
    heartbeat.turn()
    assert heartbeat.wait_s == math.inf
    assert not sent


def test_it_beats_once_an_interval_however_often_the_loop_turns() -> None:
    """The first turn beats, the next waits for the interval to pass."""
    sent: list[str] = []
    heartbeat = Watchdog(3600.0, lambda: None, sent.append)
    for _ in range(100):
        heartbeat.turn()
    assert sent == ["WATCHDOG=1"]
    assert 3000 < heartbeat.wait_s <= 3600


def test_trouble_stops_it_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """While something is wrong there is no beat; when it is well again there is."""
    trouble: list[str | None] = ["the store can't be read: disk I/O error"]
    sent: list[str] = []
    heartbeat = Watchdog(1e-9, lambda: trouble[0], sent.append)
    for _ in range(3):
        heartbeat.turn()
        time.sleep(0.001)
    assert not sent
    assert caplog.text.count("No heartbeat for the watchdog: the store can't be read") == 1
    trouble[0] = None
    heartbeat.turn()
    assert sent == ["WATCHDOG=1"]


def test_a_thread_that_hangs_in_a_step_is_stuck_and_one_that_waits_is_not() -> None:
    """A real thread that does not come back is told; rest, of any length, is not."""
    pulse, release = Liveness(limit_s=0.01), threading.Event()

    def work() -> None:
        pulse.busy()
        release.wait()
        pulse.rest()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    assert pulse.stuck_s is not None
    release.set()
    thread.join()
    time.sleep(0.05)
    assert pulse.stuck_s is None
