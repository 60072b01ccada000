"""Backoff and admission: nobody hammers a host, and a thousand agents do not return as a herd."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tenacity import RetryCallState, Retrying, retry_always, stop_after_attempt

from otel_oom.export import retry
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.export.retry import RetryGate, backoff_s
from tests.testlib.wait import wait_until

RETRYABLE = ExportResponse(ExportResult.RETRYABLE)
ACCEPTED = ExportResponse(ExportResult.ACCEPTED)
LIMIT = 30.0
AGENTS = 1000


def never() -> bool:
    """Report that the thread is not stopped."""
    return False


def last_wait_s(failures: int, retry_after_s: float | None) -> float:
    """Return the wait after so many failures in a row."""
    waits: list[float] = []
    retrying = Retrying(
        retry=retry_always,
        wait=backoff_s,
        sleep=waits.append,
        stop=stop_after_attempt(failures + 1),
        retry_error_callback=lambda _: None,
    )
    retrying(lambda: ExportResponse(ExportResult.RETRYABLE, retry_after_s=retry_after_s))
    return waits[-1]


def busiest_second(waits: list[float]) -> int:
    """Return how many of them end within one second."""
    return max(Counter(int(wait) for wait in waits).values())


def test_a_thousand_agents_with_one_retry_after_return_spread() -> None:
    """After Retry-After: 30 none is back before, and all are spread over the 30 s after it.

    An even spread has 33 in each second, and 80 in one of them once in 10^12 times.
    """
    waits = [last_wait_s(1, 30) for _ in range(AGENTS)]
    assert min(waits) >= 30
    assert max(waits) <= 60
    assert busiest_second(waits) < 80


@pytest.mark.slow
def test_a_thousand_agents_return_spread_over_a_minute_after_a_long_outage() -> None:
    waits = [last_wait_s(20, None) for _ in range(AGENTS)]
    assert max(waits) <= 60
    assert busiest_second(waits) < 60


def test_the_first_failure_is_retried_within_a_second_and_not_at_once_by_all() -> None:
    waits = [last_wait_s(1, None) for _ in range(AGENTS)]
    assert max(waits) <= 1
    tenths = Counter(int(wait * 10) for wait in waits)
    assert len(tenths) == 10
    assert max(tenths.values()) < 200


@pytest.mark.slow
def test_the_bound_doubles_with_each_failure_up_to_a_minute() -> None:
    for failures, bound in ((1, 1), (2, 2), (4, 8), (7, 60), (100, 60)):
        longest = max(last_wait_s(failures, None) for _ in range(200))
        assert bound / 2 < longest <= bound
    assert last_wait_s(1100, None) <= 60


@pytest.mark.parametrize("retry_after_s", [1e9, float("inf")])
def test_a_backend_can_request_an_hour_at_most(retry_after_s: float) -> None:
    assert 3600 <= last_wait_s(1, retry_after_s) <= 3660


def test_retry_after_0_does_not_make_agents_hammer() -> None:
    waits = [last_wait_s(5, 0) for _ in range(AGENTS)]
    assert 8 < max(waits) <= 16


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Admit the next thread at once: the order is tested."""
    monkeypatch.setattr(retry, "backoff_s", lambda _: 0.0)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the list of failures that were counted; there is no wait."""
    counted: list[int] = []

    def backoff_s(state: RetryCallState) -> float:
        counted.append(state.attempt_number)
        return 0.0

    monkeypatch.setattr(retry, "backoff_s", backoff_s)
    return counted


def test_a_working_host_admits_all_at_once() -> None:
    gate = RetryGate()
    with gate.acquire(never), gate.acquire(never) as report:
        report(ACCEPTED)
    assert gate.remaining_s() == 0


def test_one_outage_counts_once(attempts: list[int]) -> None:
    """Two requests that were under way when a host failed are one failure, not two."""
    gate = RetryGate()
    with gate.acquire(never) as first, gate.acquire(never) as second:
        first(RETRYABLE)
        second(RETRYABLE)
    with gate.acquire(never) as report:
        report(RETRYABLE)
    assert attempts == [1, 2]


def test_failures_of_several_threads_count_together(attempts: list[int]) -> None:
    gate = RetryGate()

    def fail() -> None:
        with gate.acquire(never) as report:
            report(RETRYABLE)

    for _ in range(3):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join(LIMIT)
    assert attempts == [1, 2, 3]


def test_the_longer_of_two_requested_waits_counts() -> None:
    gate = RetryGate()
    with gate.acquire(never) as first, gate.acquire(never) as second:
        first(RETRYABLE)
        second(ExportResponse(ExportResult.RETRYABLE, retry_after_s=500))
    assert 400 < gate.remaining_s() <= 560


@pytest.mark.parametrize("result", [r for r in ExportResult if r is not ExportResult.RETRYABLE])
def test_any_other_result_ends_the_outage(result: ExportResult) -> None:
    gate = RetryGate()
    with gate.acquire(never) as report:
        report(ExportResponse(ExportResult.RETRYABLE, retry_after_s=500))
        report(ExportResponse(result))
    assert gate.remaining_s() == 0


class Threads:
    """Threads that acquire a gate; each keeps it until its response is set."""

    def __init__(self, gate: RetryGate, pool: ThreadPoolExecutor) -> None:
        """Acquire ``gate`` in threads of ``pool``."""
        self._gate = gate
        self._pool = pool
        self.admitted: list[str] = []

    def start(self, name: str, stopped: Callable[[], bool] = never) -> Future[ExportResponse]:
        """Acquire the gate in a thread of its own; set the result to release it."""
        response: Future[ExportResponse] = Future()
        started = threading.Event()

        def work() -> None:
            started.set()
            with self._gate.acquire(stopped) as report:
                self.admitted.append(name)
                if not stopped():
                    report(response.result(LIMIT))

        self._pool.submit(work)
        assert started.wait(LIMIT)
        wait_until(lambda: name in self.admitted or self._gate._queue, "it waits", limit=LIMIT)  # noqa: SLF001  nowhere else
        return response


@pytest.mark.usefixtures("no_wait")
def test_a_failing_host_is_tried_by_one_at_a_time_in_order_of_arrival() -> None:
    gate = RetryGate()
    with gate.acquire(never) as report:
        report(RETRYABLE)
    with ThreadPoolExecutor(3) as pool:
        threads = Threads(gate, pool)
        first = threads.start("first")
        wait_until(lambda: threads.admitted == ["first"], "it tries", limit=LIMIT)
        second = threads.start("second")
        wait_until(lambda: len(gate._queue) == 1, "it waits", limit=LIMIT)  # noqa: SLF001
        third = threads.start("third")
        wait_until(lambda: len(gate._queue) == 2, "it waits", limit=LIMIT)  # noqa: SLF001
        assert threads.admitted == ["first"]
        first.set_result(RETRYABLE)
        wait_until(lambda: len(threads.admitted) == 2, "the next tries", limit=LIMIT)
        assert threads.admitted == ["first", "second"]
        second.set_result(ACCEPTED)
        wait_until(lambda: len(threads.admitted) == 3, "all are admitted", limit=LIMIT)
        third.set_result(ACCEPTED)


def test_a_stopped_thread_waits_no_longer() -> None:
    """A wait of an hour ends when its exporter is stopped; the wait goes on for others."""
    gate = RetryGate()
    with gate.acquire(never) as report:
        report(ExportResponse(ExportResult.RETRYABLE, retry_after_s=3600))
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        threads = Threads(gate, pool)
        threads.start("a", stop.is_set)
        stop.set()
        gate.wake_all()
        wait_until(lambda: threads.admitted == ["a"], "it ends", limit=LIMIT)
    assert gate.remaining_s() > 3000


@pytest.mark.usefixtures("no_wait")
def test_an_exception_releases_the_gate() -> None:
    gate = RetryGate()
    with gate.acquire(never) as report:
        report(RETRYABLE)
    for _ in itertools.repeat(None, 2):
        with pytest.raises(OSError, match="full"), gate.acquire(never):
            raise OSError("full")
