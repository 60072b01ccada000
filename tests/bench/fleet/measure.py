"""Measure one size of a fleet: kills, metrics, and an outage of both gateways."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tests.bench.fleet.herd import Herd, draw_first_failures, simulate_outage, summarize
from tests.bench.fleet.senders import Plan, Senders, SentRequests
from tests.bench.fleet.stores import Stores, read_cpu_s, read_peak_mb, run_stores

OUTAGE_S: Final = 40.0
"""Of the real outage; the one of an hour is computed."""
HOUR_S: Final = 3600.0
LOSS_EVERY: Final = 20
"""Every 20th host loses a response, and sends the message again."""

_KILLS: Final = 3000
"""Of a phase, if there are not more hosts."""
_KILLS_PER_S: Final = 150.0
_EXPORTS_PER_S: Final = 150.0
_EXPORTS: Final = 2
_START_S: Final = 3.0
_MADE_PER_S: Final = 1000
"""Hosts that the processes make in a second, before their first kill."""
_LIMIT_S: Final = 300.0


class FleetResult(Struct, frozen=True):
    """The measurements of one size; CPU time is that of both gateways together."""

    hosts: int
    kills: int
    requests: int
    kill_cpu_s: float
    stored_bytes: int
    without_host_bytes: int
    rows: int
    duplicates: int
    exports: int
    export_cpu_s: float
    series: int
    prometheus_mb: float
    gateway_mb: float
    rejected: int
    lost: int
    real: Herd
    model: Herd
    hour_at_once: Herd
    hour_spread: Herd

    @property
    def stored_bytes_per_kill(self) -> float:
        """Return the bytes of the two log events of a kill at rest."""
        return self.stored_bytes / self.rows

    @property
    def series_per_host(self) -> float:
        """Return the series of a host with one kill."""
        return self.series / self.hosts

    @property
    def kills_per_core_s(self) -> float:
        """Return how many kills a second a core of a gateway handles."""
        return self.kills / self.kill_cpu_s

    @property
    def exports_per_core_s(self) -> float:
        """Return how many exports of metrics a second a core of a gateway handles."""
        return self.exports / self.export_cpu_s


def measure_fleet(hosts: int, senders: Senders, folder: Path) -> FleetResult:
    """Measure a fleet of ``hosts`` hosts; files are in ``folder``."""
    with ExitStack() as stack:
        stores = stack.enter_context(run_stores(folder))
        running = stack.enter_context(stores.gateways.run_both())
        kills = max(1, _KILLS // hosts)
        began = read_cpu_s(*running)
        spread_s = max(10.0, hosts * kills / _KILLS_PER_S)
        plan = replace(_plan(stores, hosts, spread_s, kills), loss_every=LOSS_EVERY)
        sent = senders.start_kills(plan)()
        rows = stores.wait_for_kills(hosts * kills)
        kill_cpu_s = read_cpu_s(*running) - began
        stored_bytes = stores.count_log_bytes()
        without_host_bytes = stores.count_log_bytes_without_host()
        began = read_cpu_s(*running)
        spread_s = max(5.0, hosts / _EXPORTS_PER_S)
        exported = senders.send_metrics(_plan(stores, hosts, spread_s, _EXPORTS))
        stores.wait_for_hosts(hosts)
        export_cpu_s = read_cpu_s(*running) - began
        gateway_mb = max(read_peak_mb(each.process) for each in running)
        for each in running:
            each.process.kill()
        began = time.time()
        plan = _plan(stores, hosts, OUTAGE_S - 2 * _START_S - hosts / _MADE_PER_S, 1)
        wait = senders.start_kills(replace(plan, first_kill=kills))
        time.sleep(max(0.0, began + OUTAGE_S - time.time()))
        stack.enter_context(stores.gateways.run_both())
        after = wait()
        total = stores.wait_for_kills(hosts * (kills + 1))
        first_failures = draw_first_failures(hosts, OUTAGE_S, at_once=False)
        return FleetResult(
            hosts=hosts,
            kills=hosts * kills,
            requests=len(sent.attempts),
            kill_cpu_s=kill_cpu_s,
            stored_bytes=stored_bytes,
            without_host_bytes=without_host_bytes,
            rows=rows.rows,
            duplicates=rows.rows - rows.uids,
            exports=hosts * _EXPORTS,
            export_cpu_s=export_cpu_s,
            series=stores.count_series(),
            prometheus_mb=read_peak_mb(stores.prometheus.process),
            gateway_mb=gateway_mb,
            rejected=sent.rejected + after.rejected,
            lost=sent.undelivered
            + after.undelivered
            + exported.undelivered
            + hosts * (kills + 1)
            - total.uids,
            real=_find_herd(after),
            model=simulate_outage(first_failures, OUTAGE_S),
            hour_at_once=_simulate_hour(hosts, at_once=True),
            hour_spread=_simulate_hour(hosts, at_once=False),
        )


def _plan(stores: Stores, hosts: int, spread_s: float, kills: int) -> Plan:
    begin = time.time() + _START_S + hosts / _MADE_PER_S
    deadline = begin + spread_s * kills + _LIMIT_S
    return Plan(stores.gateways.urls, tuple(range(hosts)), begin, spread_s, deadline, kills=kills)


def _find_herd(sent: SentRequests) -> Herd:
    """Return when each host's first message was accepted, from the first of all on."""
    times: dict[int, float] = {}
    for each in sent.attempts:
        if each.accepted:
            times.setdefault(each.host, each.unix_s)
    first = min(times.values())
    failed = [each.unix_s for each in sent.attempts if first - 10 <= each.unix_s < first]
    return summarize([unix_s - first for unix_s in times.values()], len(failed) / 10)


def _simulate_hour(hosts: int, *, at_once: bool) -> Herd:
    return simulate_outage(draw_first_failures(hosts, HOUR_S, at_once=at_once), HOUR_S)
