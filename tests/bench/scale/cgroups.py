"""Costs by the number of cgroups that have a limit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from tests.bench.scale.growth import Cost, Dimension
from tests.bench.scale.kill_cost import measure_kills, measure_start, run_beside_backend
from tests.bench.usage import many_cgroups
from tests.testlib.agent import Agent
from tests.testlib.wait import wait_until

SIZES: Final = (100, 1000, 10_000)
_WALK_S: Final = 300.0
_WALKED: Final = "sampled less often"
_MAX_SAMPLED: Final = 512


def measure_cgroups(sizes: Iterable[int] = SIZES) -> Dimension:
    """Measure kills, each in a cgroup of its own, beside many cgroups."""
    cpu, latency, rss, start = {}, {}, {}, {}
    for size in sizes:
        with many_cgroups(size, 0), run_beside_backend() as (agent, backend):
            start[size], _ = measure_start(agent)
            if size > _MAX_SAMPLED:
                wait_until(partial(_has_walked, agent), "the first walk", limit=_WALK_S)
            cost = measure_kills(agent, backend)
            cpu[size], latency[size] = cost.cpu_ms, cost.latency_ms
            _, rss[size] = measure_start(agent)
    return Dimension(
        "cgroups",
        (
            Cost("a kill: CPU of the agent", "ms", cpu, "256 sampled files, 50 ms for a walk"),
            Cost("a kill: kernel to receiver, p50", "ms", latency),
            Cost("start: CPU", "s", start),
            Cost("RSS after 50 kills", "MB", rss),
        ),
    )


def _has_walked(agent: Agent) -> bool:
    return _WALKED in agent.log_text()
