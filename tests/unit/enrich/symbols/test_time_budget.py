"""A tenant in a loop of kills takes a small share of time, and leaves that of others."""

from __future__ import annotations

import time

import pytest

from otel_oom.enrich.symbols.time_budget import TimeBudget


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def take(budget: TimeBudget, clock: Clock, tenant: str, duration_s: float) -> float:
    """Let a tenant take time if it may; return what it took."""
    if not budget.allows(tenant):
        return 0.0
    clock.now += duration_s
    budget.spend(tenant, duration_s)
    return duration_s


def test_a_tenant_takes_a_fiftieth_of_the_time(clock: Clock) -> None:
    budget, taken = TimeBudget(), 0.0
    end = clock.now + 1000
    while clock.now < end:
        taken += take(budget, clock, "loud", 0.5)
        clock.now += 0.01
    assert 18 <= taken <= 24


def test_many_tenants_take_a_fifth_of_the_time(clock: Clock) -> None:
    budget, taken = TimeBudget(), 0.0
    end = clock.now + 200
    while clock.now < end:
        for number in range(32):
            taken += take(budget, clock, f"loud {number}", 0.1)
        clock.now += 0.05
    assert 36 <= taken <= 44


def test_a_quiet_tenant_is_not_held_back_by_others(clock: Clock) -> None:
    budget = TimeBudget()
    for _ in range(400):
        clock.now += 0.5
        for number in range(8):
            take(budget, clock, f"loud {number}", 0.1)
    for _ in range(2):
        assert take(budget, clock, "quiet", 0.1)
        clock.now += 1


def test_tenants_in_memory_are_bounded(clock: Clock) -> None:
    budget = TimeBudget()
    for number in range(1000):
        clock.now += 1
        take(budget, clock, str(number), 0.1)
    assert len(budget._holders) <= 256  # noqa: SLF001  there is no other way to see it
