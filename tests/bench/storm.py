"""The memory of the agent in a storm of kills."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from otel_oom.commands.demo.receiver import Receiver
from tests.bench.backends import CountingBackend
from tests.bench.measurement import Measurement, read_cpu_s, read_rss_mb
from tests.testlib.agent import run_agent
from tests.testlib.kernel.memcg import own_memcg
from tests.testlib.wait import wait_until
from tests.vmtest import programs

KILLS: Final = (1_000, 10_000)
_BURST: Final = 500
_AT_ONCE: Final = 2
_LIMIT: Final = 4 << 20
_SETTLE_S: Final = 4.0
_LATER_S: Final = 10.0
"""Longer than the agent waits after a burst before it returns its free memory."""
_STORM_S: Final = 600.0


def measure_storm() -> Iterator[Measurement]:
    """Measure one agent before, in and after a storm of real kills."""
    programs.build_programs()
    backend = CountingBackend()
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        Receiver(backend) as receiver,
        run_agent(Path(folder), {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as agent,
    ):
        time.sleep(_SETTLE_S)
        yield Measurement("RSS before a storm", read_rss_mb(agent), "MB", 32)
        began_cpu_s, made = read_cpu_s(agent), 0
        for count in KILLS:
            while made < count:
                # More at once would overflow the kernel's ring buffer.
                _kill(_BURST)
                made += _BURST
                wait_until(lambda: len(backend.kills) >= made, "all kills arrive", limit=_STORM_S)  # noqa: B023  waits at once
            yield Measurement(f"RSS after {count} kills", read_rss_mb(agent), "MB", 34)
        cpu_ms = (read_cpu_s(agent) - began_cpu_s) / made * 1e3
        yield Measurement("CPU of the agent for a kill of the storm", cpu_ms, "ms")
        time.sleep(_LATER_S)
        yield Measurement(f"RSS {_LATER_S:.0f} s later", read_rss_mb(agent), "MB", 34)


def _kill(count: int) -> None:
    """Have the kernel kill so many processes, as fast as it can."""
    with ExitStack() as stack:
        storms = [
            stack.enter_context(
                subprocess.Popen(
                    [
                        programs.program_path("kill_storm"),
                        stack.enter_context(own_memcg(_LIMIT)).procs,
                        str(count // _AT_ONCE),
                    ],
                    stdout=subprocess.DEVNULL,
                )
            )
            for _ in range(_AT_ONCE)
        ]
        assert not any(storm.wait(_STORM_S) for storm in storms)
