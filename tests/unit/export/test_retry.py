"""The wait between tries: nobody hammers, and a thousand hosts do not come back as one."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from otel_oom.export import retry
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.export.retry import RetryGate, wait_s
from tests.testlib.wait import wait_until

LATER = ExportResponse(ExportResult.RETRYABLE)
TAKEN = ExportResponse(ExportResult.ACCEPTED)
LIMIT = 30.0
HOSTS = 1000


def never() -> bool:
    """Nobody stops."""
    return False


def busiest_second(waits: list[float]) -> int:
    """How many of them end within one second."""
    return max(Counter(int(wait) for wait in waits).values())


def test_a_thousand_hosts_that_were_sent_away_together_come_back_spread() -> None:
    """After Retry-After: 30 nobody is back before, and all are spread over the 30 s after it.

    An even spread has 33 in each second, and 80 in one of them once in 10^12 times.
    """
    waits = [wait_s(1, 30) for _ in range(HOSTS)]
    assert min(waits) >= 30
    assert max(waits) <= 60
    assert busiest_second(waits) < 80


def test_a_thousand_hosts_that_met_one_outage_come_back_spread() -> None:
    """The first try after a long outage is spread over a minute, though all failed alike."""
    waits = [wait_s(20, None) for _ in range(HOSTS)]
    assert max(waits) <= 60
    assert busiest_second(waits) < 60


def test_the_first_failure_is_retried_soon_and_not_at_once_by_all() -> None:
    """A hiccup costs a second at most, at a random point of it."""
    waits = [wait_s(1, None) for _ in range(HOSTS)]
    assert max(waits) <= 1
    tenths = Counter(int(wait * 10) for wait in waits)
    assert len(tenths) == 10
    assert max(tenths.values()) < 200


def test_waits_grow_and_end_growing() -> None:
    """The bound doubles with each failure, up to a minute."""
    for failures, bound in ((1, 1), (2, 2), (4, 8), (7, 60), (1000, 60)):
        longest = max(wait_s(failures, None) for _ in range(HOSTS))
        assert bound / 2 < longest <= bound


@pytest.mark.parametrize("asked", [1e9, float("inf")])
def test_nobody_may_ask_for_ever(asked: float) -> None:
    """A backend's wish is kept for an hour at the most."""
    assert 3600 <= wait_s(1, asked) <= 3660


def test_a_wait_of_none_is_our_own() -> None:
    """Retry-After: 0 does not make a thousand hosts hammer."""
    waits = [wait_s(5, 0) for _ in range(HOSTS)]
    assert 8 < max(waits) <= 16


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns follow each other at once: what is tested is their order."""
    monkeypatch.setattr(retry, "wait_s", lambda *_: 0.0)


def test_turns_overlap_while_all_is_well() -> None:
    """Two signals are sent at the same time."""
    shared = RetryGate()
    with shared.turn(never), shared.turn(never) as heard:
        heard(TAKEN)
    assert shared.left_s() == 0


def test_one_outage_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two requests that were under way when a host went away are one failure, not two."""
    counted: list[int] = []

    def no_wait(failures: int, _: float | None) -> float:
        counted.append(failures)
        return 0.0

    monkeypatch.setattr(retry, "wait_s", no_wait)
    shared = RetryGate()
    with shared.turn(never) as one, shared.turn(never) as other:
        one(LATER)
        other(LATER)
    with shared.turn(never) as heard:
        heard(LATER)
    assert counted == [1, 2]


def test_the_longer_wish_of_two_is_kept() -> None:
    """What a backend asks of one signal holds for the other's answer as well."""
    shared = RetryGate()
    with shared.turn(never) as one, shared.turn(never) as other:
        one(LATER)
        other(ExportResponse(ExportResult.RETRYABLE, wait_s=500))
    assert 400 < shared.left_s() <= 560


@pytest.mark.parametrize("verdict", [v for v in ExportResult if v is not ExportResult.RETRYABLE])
def test_any_answer_ends_the_outage(verdict: ExportResult) -> None:
    """A host that judges what it is sent is there again."""
    shared = RetryGate()
    with shared.turn(never) as heard:
        heard(ExportResponse(ExportResult.RETRYABLE, wait_s=500))
        heard(ExportResponse(verdict))
    assert shared.left_s() == 0


class Others:
    """Threads that want a turn; each holds it until it is told the answer."""

    def __init__(self, shared: RetryGate, pool: ThreadPoolExecutor) -> None:
        """Want turns of ``shared``."""
        self._shared = shared
        self._pool = pool
        self.having: list[str] = []

    def want(self, name: str, stopped: Callable[[], bool] = never) -> Future[ExportResponse]:
        """Ask for a turn in a thread of its own; set the result to end it."""
        answer: Future[ExportResponse] = Future()
        asked = threading.Event()

        def work() -> None:
            asked.set()
            with self._shared.turn(stopped) as heard:
                self.having.append(name)
                if not stopped():
                    heard(answer.result(LIMIT))

        self._pool.submit(work)
        assert asked.wait(LIMIT)
        wait_until(lambda: name in self.having or self._shared._waiting, "it waits", limit=LIMIT)  # noqa: SLF001  nowhere else
        return answer


@pytest.mark.usefixtures("no_wait")
def test_while_it_fails_one_tries_for_all_in_their_order() -> None:
    """A host that fails is tried by one at a time; who has waited longest is next."""
    shared = RetryGate()
    with shared.turn(never) as heard:
        heard(LATER)
    with ThreadPoolExecutor(3) as pool:
        others = Others(shared, pool)
        first = others.want("first")
        wait_until(lambda: others.having == ["first"], "it tries", limit=LIMIT)
        second = others.want("second")
        wait_until(lambda: len(shared._waiting) == 1, "it waits", limit=LIMIT)  # noqa: SLF001
        third = others.want("third")
        wait_until(lambda: len(shared._waiting) == 2, "it waits", limit=LIMIT)  # noqa: SLF001
        assert others.having == ["first"]
        first.set_result(LATER)
        wait_until(lambda: len(others.having) == 2, "the next tries", limit=LIMIT)
        assert others.having == ["first", "second"]
        second.set_result(TAKEN)
        wait_until(lambda: len(others.having) == 3, "all may", limit=LIMIT)
        third.set_result(TAKEN)


def test_who_is_stopped_waits_no_longer() -> None:
    """A wait of an hour ends when its courier is stopped; the wait goes on for others."""
    shared = RetryGate()
    with shared.turn(never) as heard:
        heard(ExportResponse(ExportResult.RETRYABLE, wait_s=3600))
    stop = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        others = Others(shared, pool)
        others.want("a", stop.is_set)
        stop.set()
        shared.look_up()
        wait_until(lambda: others.having == ["a"], "it ends", limit=LIMIT)
    assert shared.left_s() > 3000


@pytest.mark.usefixtures("no_wait")
def test_a_turn_that_fails_by_itself_stops_nobody() -> None:
    """An error in a turn, such as a full disk, gives the turn back."""
    shared = RetryGate()
    with shared.turn(never) as heard:
        heard(LATER)
    for _ in itertools.repeat(None, 2):
        with pytest.raises(OSError, match="full"), shared.turn(never):
            raise OSError("full")
