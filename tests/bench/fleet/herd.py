"""When hosts come back after an outage, by the agent's own back-off and a clock that is set."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final
from unittest import mock

from msgspec import Struct

from otel_oom.export import retry
from otel_oom.export.result import ExportResponse, ExportResult
from otel_oom.export.retry import RetryGate

_FAILURE: Final = ExportResponse(ExportResult.RETRYABLE, "connection refused")


class Herd(Struct, frozen=True):
    """Hosts that come back: the most in one second, the mean, and how long it takes.

    ``tries_per_s`` is the mean number of requests a second during the last minute of the outage.
    """

    hosts: int
    peak_per_s: float
    mean_per_s: float
    took_s: float
    tries_per_s: float = math.nan

    @property
    def peak_to_mean(self) -> float:
        """Return how much higher the peak is than the mean."""
        return self.peak_per_s / self.mean_per_s


class Clock:
    """The time that a gate reads in place of the monotonic clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        """Return the time that was set."""
        return self.now_s


def summarize(times_s: Iterable[float], tries_per_s: float = math.nan) -> Herd:
    """Count hosts by the second of their return, from the end of the outage on."""
    returned = sorted(times_s)
    seconds = Counter(map(math.floor, returned))
    took_s = max(1.0, math.ceil(returned[-1]))
    hosts = len(returned)
    return Herd(hosts, float(max(seconds.values())), hosts / took_s, took_s, tries_per_s)


def simulate_outage(first_failures_s: Sequence[float], outage_s: float) -> Herd:
    """Have hosts fail for ``outage_s`` seconds, each from the time of its first message on."""
    clock = Clock()
    returns, tries = list[float](), 0
    with mock.patch.object(retry, "time", clock):
        for first_s in first_failures_s:
            clock.now_s, gate = first_s, RetryGate()
            while clock.now_s < outage_s:
                tries += clock.now_s >= outage_s - 60
                with gate.acquire(lambda: False) as report:
                    report(_FAILURE)
                clock.now_s += gate.remaining_s()
            returns.append(clock.now_s - outage_s)
    return summarize(returns, tries / min(outage_s, 60))


def draw_first_failures(hosts: int, outage_s: float, *, at_once: bool) -> list[float]:
    """Return the first failure of each host: at a random time, or as the outage begins."""
    rng = random.Random(hosts)  # noqa: S311  no secret
    return [0.0 if at_once else rng.uniform(0, outage_s) for _ in range(hosts)]
