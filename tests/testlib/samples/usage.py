"""Usage before a kill, as the recorder would have sampled it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from otel_oom.enrich.event import enrich_kill
from otel_oom.enrich.types import EnrichedKill, VictimOutcome
from otel_oom.model.snapshot import HostMemory
from otel_oom.model.types import MemcgUsage
from otel_oom.model.units import MIB, NS_PER_S
from otel_oom.model.usage import UsageHistory, UsageSeries
from tests.testlib.samples.events import DECISION, EXIT, HOST, KILL, SNAPSHOT

LIMIT = 128 * MIB
MARK_S = 1000
INTERVAL_S = 5.0

Usage = Callable[[float], float]
"""Bytes at a time in seconds since the kill."""


def leak(seconds: float) -> float:
    """Use 2 MiB more each second, up to the limit at the kill."""
    return max(0.0, LIMIT + 2 * MIB * seconds)


def spike(seconds: float) -> float:
    """Use 12 MiB up to the last second."""
    return 12 * MIB if seconds < -1 else LIMIT


def plateau(seconds: float) -> float:
    """Be at the limit for a minute."""
    return 3 * MIB if seconds < -62 else LIMIT - MIB


def sample_series(  # noqa: PLR0913  each is named at the call
    usage: Usage,
    *,
    count: int = 120,
    interval_s: float = INTERVAL_S,
    before_s: float = 2.0,
    created_s: float | None = None,
    path: str | None = "/docker",
) -> UsageSeries:
    """Sample ``usage``; the last sample is ``before_s`` before the kill."""
    return UsageSeries(
        path=path,
        interval_ns=int(interval_s * NS_PER_S),
        end_boottime_ns=int((MARK_S - before_s) * NS_PER_S),
        values=tuple(int(usage(-before_s - n * interval_s)) for n in reversed(range(count))),
        limit=LIMIT,
        created_boottime_ns=None if created_s is None else int((MARK_S + created_s) * NS_PER_S),
    )


def enriched_kill(history: UsageHistory, *, of_host: bool = False) -> EnrichedKill:
    """Return the sample kill at a limit of 128 MiB, or of a host with that much memory."""
    decision = replace(DECISION, memcg_usage=MemcgUsage(LIMIT, LIMIT, 0, 0))
    if of_host:
        decision = replace(DECISION, constraint="none", memcg=None, memcg_usage=None)
    kill = replace(KILL, boottime_ns=MARK_S * NS_PER_S, decision=decision)
    snapshot = replace(
        SNAPSHOT,
        boottime_ns=kill.boottime_ns + 800_000,
        host=HostMemory({"total": LIMIT, "available": 0}),
        usage_history=history,
    )
    exited = replace(EXIT, boottime_ns=kill.boottime_ns + 5_000_000)
    return enrich_kill(kill, snapshot, VictimOutcome(exited), KILL.time_unix_ns + 5, HOST)
