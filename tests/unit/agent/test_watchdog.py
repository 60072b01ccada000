"""The watchdog's keep-alive, and the liveness of threads that it depends on."""

from __future__ import annotations

import math
import threading
import time

import pytest

from otel_oom.agent.watchdog import Watchdog
from otel_oom.agent.worker import Liveness


def test_without_a_watchdog_nothing_is_sent_and_the_loop_need_not_wake() -> None:
    sent: list[str] = []
    watchdog = Watchdog(None, lambda: None, sent.append)
    watchdog.tick()
    assert watchdog.wait_s == math.inf
    assert not sent


def test_one_keep_alive_per_interval_however_often_the_loop_turns() -> None:
    sent: list[str] = []
    watchdog = Watchdog(3600.0, lambda: None, sent.append)
    for _ in range(100):
        watchdog.tick()
    assert sent == ["WATCHDOG=1"]
    assert 3000 < watchdog.wait_s <= 3600


def test_a_health_error_stops_the_keep_alive_and_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    health: list[str | None] = ["the store can't be read: disk I/O error"]
    sent: list[str] = []
    watchdog = Watchdog(1e-9, lambda: health[0], sent.append)
    for _ in range(3):
        watchdog.tick()
        time.sleep(0.001)
    assert not sent
    assert caplog.text.count("no keep-alive is sent: the store can't be read") == 1
    health[0] = None
    watchdog.tick()
    assert sent == ["WATCHDOG=1"]


def test_a_thread_that_hangs_in_a_step_is_stalled_and_one_that_waits_is_not() -> None:
    liveness, release = Liveness(limit_s=0.01), threading.Event()

    def work() -> None:
        liveness.begin()
        release.wait()
        liveness.end()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.05)
    assert liveness.stalled_s is not None
    release.set()
    thread.join()
    time.sleep(0.05)
    assert liveness.stalled_s is None
