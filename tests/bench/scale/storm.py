"""Costs by the number of kills of a storm, from one container at full speed."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from functools import partial
from typing import Final

from otel_oom.commands.demo.receiver import Receiver
from tests.bench.backends import CountingBackend
from tests.bench.latency import quiet_console
from tests.bench.measurement import read_cpu_s, read_peak_rss_mb, read_rss_mb
from tests.bench.scale.growth import Cost, Dimension
from tests.bench.scale.kill_cost import run_beside
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.wait import wait_until
from tests.vmtest.programs import build_programs, program_path

SIZES: Final = (100, 1000, 10_000)

_SETTLE_S: Final = 2.0
_LIMIT_BYTES: Final = 4 << 20
_LIMIT_S: Final = 600.0


def measure_storm(sizes: Iterable[int] = SIZES) -> Dimension:
    """Measure storms, each with an agent and a backend of its own, with a quiet console.

    Raises:
        TimeoutError: a kill is reported neither as an event nor by number.
    """
    build_programs()
    cpu, made, behind, rss, peak, by_number = {}, {}, {}, {}, {}, {}
    for size in sizes:
        backend = CountingBackend()
        with quiet_console(), Receiver(backend) as receiver, run_beside(receiver.url) as agent:
            time.sleep(_SETTLE_S)
            before, began = read_cpu_s(agent), time.monotonic()
            _kill(size)
            ended = time.monotonic()
            wait_until(partial(_has_kills, backend, size), "all kills", limit=_LIMIT_S)
            behind[size] = max(0.0, backend.last_kill_s - ended)
            made[size] = size / (ended - began)
            wait_until(partial(_is_quiet, backend), "the last event", limit=_LIMIT_S)
            cpu[size] = (read_cpu_s(agent) - before) / size * 1e3
            time.sleep(_SETTLE_S)
            rss[size], peak[size] = read_rss_mb(agent), read_peak_rss_mb(agent)
            by_number[size] = sum(backend.missed.values())
    return Dimension(
        "kills of a storm",
        (
            Cost("a kill: CPU of the agent", "ms", cpu),
            Cost("kills that the machine makes", "1/s", made),
            Cost("last kill made to last kill received", "s", behind),
            Cost("kills reported by number only", "", by_number),
            Cost("RSS afterwards", "MB", rss),
            Cost("peak RSS", "MB", peak),
        ),
    )


def _has_kills(backend: CountingBackend, count: int) -> bool:
    return backend.all_kills >= count


def _is_quiet(backend: CountingBackend) -> bool:
    before = backend.ends
    time.sleep(_SETTLE_S)
    return backend.ends == before


def _kill(count: int) -> None:
    with own_memcg(_LIMIT_BYTES) as memcg:
        command = (program_path("kill_storm"), memcg.procs, str(count))
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
