"""Costs by the number of stored events, which first wait for a backend and then are history."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_oom.commands.demo.receiver import Receiver
from otel_oom.config.store import MAX_BYTES
from otel_oom.store import Store, StoreLimits
from otel_oom.store.database import Database
from otel_oom.store.database_file import Work
from tests.bench import drain
from tests.bench.backends import LatencyBackend
from tests.bench.measurement import read_cpu_s, read_peak_rss_mb
from tests.bench.scale.fill import (
    ENVIRON,
    FIRST_PID,
    MAX_AGE_S,
    OLD_SHARE,
    Template,
    event_uid,
    fill_store,
    record_templates,
)
from tests.bench.scale.growth import Cost, Dimension
from tests.bench.scale.kill_cost import (
    KILLS,
    kill_one_by_one,
    measure_command_s,
    measure_kills,
    measure_start,
)
from tests.testlib.agent import run_agent
from tests.testlib.servers.build import build_binary
from tests.testlib.servers.collector import run_collector
from tests.testlib.wait import wait_until

SIZES: Final = (1000, 10_000, 100_000, 1_000_000)

_LIMITS: Final = StoreLimits(max_bytes=1 << 40, max_age_s=MAX_AGE_S)
_ENVIRON: Final = {**ENVIRON, MAX_BYTES: str(_LIMITS.max_bytes)}
_SETTLE_S: Final = 3.0
_DRAIN_S: Final = 900.0
_COMMANDS: Final = ("events", "show UID", "show PID", "show last")

_Values = defaultdict[str, dict[int, float]]


def measure_journal(sizes: Iterable[int] = SIZES) -> Dimension:
    """Measure stores that are filled with real kills under many uids."""
    templates = record_templates()
    values: _Values = defaultdict(dict)
    for size in sizes:
        # Not /tmp, which may be in memory instead of on a disk.
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            _measure_size(values, size, Path(folder), templates)
    return Dimension("stored events", _list_costs(values))


def _list_costs(values: _Values) -> list[Cost]:
    commands = [Cost(f"`{name}`: CPU, with the agent's", "s", values[name]) for name in _COMMANDS]
    bound = "size limit, 256 MiB by default"
    return [
        Cost("backlog: a kill, CPU of the agent", "ms", values["kill, waiting"]),
        Cost("history: a kill, CPU of the agent", "ms", values["kill"]),
        Cost("history: a kill, kernel to receiver, p50", "ms", values["latency"]),
        Cost("backlog: start, CPU", "s", values["start, waiting"]),
        Cost("history: start, CPU", "s", values["start"]),
        Cost("backlog: RSS after start", "MB", values["rss"]),
        Cost("drain to a Collector: CPU of the agent", "s", values["drain"], bound),
        Cost("drain to a Collector: events a second", "1/s", values["rate"]),
        Cost("drain: peak RSS", "MB", values["peak"]),
        *commands,
        Cost("`queue` with the backlog: CPU, with the agent's", "s", values["queue"], bound),
        Cost("upkeep, nothing delivered: CPU", "s", values["upkeep, waiting"], bound),
        Cost("upkeep, nothing delivered: longest step", "ms", values["step, waiting"], "512 rows"),
        Cost("upkeep, a tenth too old: CPU", "s", values["upkeep"], bound),
        Cost("upkeep, a tenth too old: longest step", "ms", values["step"], "256 rows"),
        Cost("size on disk", "MB", values["disk"], bound),
    ]


def _measure_size(values: _Values, size: int, folder: Path, templates: list[Template]) -> None:
    state = folder / "state"
    _say(f"Filling a store with {size:,} events")
    fill_store(state, templates, size, queued=True)
    values["disk"][size] = sum(path.stat().st_size for path in state.iterdir()) / 1e6
    values["upkeep, waiting"][size], values["step, waiting"][size] = _measure_upkeep(state)
    _say("Kills beside the backlog")
    with run_agent(folder, _ENVIRON) as agent:
        values["start, waiting"][size], values["rss"][size] = measure_start(agent)
        kill_one_by_one(KILLS)
        time.sleep(_SETTLE_S)
        before = read_cpu_s(agent)
        kill_one_by_one(KILLS)
        time.sleep(_SETTLE_S)
        values["kill, waiting"][size] = (read_cpu_s(agent) - before) / KILLS * 1e3
        before = read_cpu_s(agent)
        command_s = measure_command_s(sys.executable, "-m", "otel_oom", "queue", *_at(state))
        values["queue"][size] = command_s + read_cpu_s(agent) - before
    _say("Drain")
    with run_collector(build_binary("collector"), drain.CONFIG) as server:
        environ = {**_ENVIRON, "OTEL_EXPORTER_OTLP_ENDPOINT": server.http}
        with run_agent(folder, environ) as agent:
            began = time.monotonic()
            wait_until(
                lambda: drain.read_accepted(server) >= size, "the drain", limit=_DRAIN_S, every=0.1
            )
            values["rate"][size] = size / (time.monotonic() - began)
            values["drain"][size] = read_cpu_s(agent)
            values["peak"][size] = read_peak_rss_mb(agent)
            time.sleep(_SETTLE_S)
            agent.stop()
    _say("Kills and commands beside the history")
    backend = LatencyBackend()
    with Receiver(backend) as receiver:
        environ = {**_ENVIRON, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
        with run_agent(folder, environ) as agent:
            values["start"][size], _ = measure_start(agent)
            cost = measure_kills(agent, backend)
            values["kill"][size], values["latency"][size] = cost.cpu_ms, cost.latency_ms
            # One of the middle, which is younger than those that are too old.
            words = (
                *(("events",), ("show", event_uid(size // 2))),
                *(("show", str(FIRST_PID + size // 2)), ("show", "last")),
            )
            for name, command in zip(_COMMANDS, words, strict=True):
                before = read_cpu_s(agent)
                own_s = measure_command_s(sys.executable, "-m", "otel_oom", *command, *_at(state))
                values[name][size] = own_s + read_cpu_s(agent) - before
            agent.stop()
    _say("Upkeep")
    values["upkeep"][size], values["step"][size] = _measure_upkeep(state, size // OLD_SHARE)


def _at(state: Path) -> tuple[str, Path]:
    return "--state-dir", state


def _say(text: str) -> None:
    print(f"{text}.", file=sys.stderr)


def _measure_upkeep(state: Path, deleted: int = 0) -> tuple[float, float]:
    """Return the CPU seconds of upkeep, and the CPU milliseconds of its longest step.

    A kill waits for one step at most.

    Raises:
        AssertionError: it did not delete so many events.
    """
    with Store(state, _LIMITS) as store:
        before = store.stats.row_counts()["events"]
        with _time_steps() as steps_s:
            began = time.thread_time()
            store.maintain()
            took_s = time.thread_time() - began
        left = store.stats.row_counts()["events"]
    assert before - left == deleted, f"{before - left} of {deleted} events were deleted"
    return took_s, max(steps_s) * 1e3


@contextmanager
def _time_steps() -> Iterator[list[float]]:
    """Yield the CPU seconds of each step that writes to a database meanwhile."""
    steps_s: list[float] = []
    write = Database.write

    def timed(database: Database, work: Work[object], **options: bool) -> object:
        began = time.thread_time()
        result = write(database, work, **options)
        steps_s.append(time.thread_time() - began)
        return result

    Database.write = timed  # type: ignore[method-assign, assignment]
    try:
        yield steps_s
    finally:
        Database.write = write  # type: ignore[method-assign]
