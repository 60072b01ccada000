"""The tables of a fleet: what was measured, and what follows from it for more hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tests.bench.fleet.herd import Herd
from tests.bench.fleet.measure import FleetResult
from tests.bench.fleet.wire import Wire

ESTIMATED_HOSTS: Final = 100_000
KILLS_PER_DAY: Final = 24
"""Of each host: one an hour, which is far more than a healthy fleet has."""
INTERVAL_S: Final = 60.0
"""Between two exports of metrics."""

_DAY_S: Final = 86_400.0
_MEAN_WAIT_S: Final = 30.0
"""Half of the longest wait of the back-off."""
_ROWS: Final[tuple[tuple[str, Callable[[FleetResult], str]], ...]] = (
    ("kills, each two log events and a span", lambda each: f"{each.kills:,}"),
    ("requests for that", lambda each: f"{each.requests:,}"),
    ("kills a second a core of gateway", lambda each: f"{each.kills_per_core_s:,.0f}"),
    ("exports of metrics a second a core", lambda each: f"{each.exports_per_core_s:,.0f}"),
    ("peak RSS of a gateway, MB", lambda each: f"{each.gateway_mb:,.0f}"),
    ("a kill at rest in VictoriaLogs, bytes", lambda each: f"{each.stored_bytes_per_kill:,.0f}"),
    (
        "the same without `host.name` in its streams",
        lambda each: f"{each.without_host_bytes / each.rows:,.0f}",
    ),
    ("duplicates, as every 20th host lost a response", lambda each: f"{each.duplicates:,}"),
    (
        "kills that VictoriaLogs has, by `log.record.uid`",
        lambda each: f"{each.rows - each.duplicates:,} of {each.kills:,}",
    ),
    ("series in Prometheus", lambda each: f"{each.series:,}; {each.series_per_host:.0f} a host"),
    ("peak RSS of Prometheus, MB", lambda each: f"{each.prometheus_mb:,.0f}"),
    ("kills lost, or rejected for good", lambda each: f"{each.lost}, {each.rejected}"),
)
_HERDS: Final[tuple[tuple[str, Callable[[FleetResult], Herd]], ...]] = (
    ("40 s, both gateways killed: measured", lambda each: each.real),
    ("40 s, by the back-off alone", lambda each: each.model),
    ("an hour, all hosts fail as it begins", lambda each: each.hour_at_once),
    ("an hour, the first failure at a random time", lambda each: each.hour_spread),
)


def format_results(results: Sequence[FleetResult]) -> str:
    """Return the table of all but the outages, a column for each size."""
    head = ("", *(f"{each.hosts:,} hosts" for each in results))
    rows = [(name, *map(text, results)) for name, text in _ROWS]
    return _table(head, rows)


def format_herds(results: Sequence[FleetResult]) -> str:
    """Return the table of the outages."""
    head = (
        *("outage", "hosts", "most that are back in a second", "mean", "peak to mean"),
        *("all are back after", "requests a second before"),
    )
    rows = [
        (
            name,
            f"{herd.hosts:,}",
            f"{herd.peak_per_s:,.0f}",
            f"{herd.mean_per_s:,.1f}",
            f"{herd.peak_to_mean:.1f}",
            f"{herd.took_s:.0f} s",
            f"{herd.tries_per_s:,.0f}",
        )
        for name, find in _HERDS
        for herd in map(find, results)
    ]
    return _table(head, rows)


def format_wire(plain: Wire, gzip: Wire) -> str:
    """Return the table of the sizes of requests."""
    rows = [
        ("the log events of a kill", f"{plain.log:,}", f"{gzip.log:,}"),
        ("its span", f"{plain.span:,}", f"{gzip.span:,}"),
        ("an export of metrics", f"{plain.metrics:,}", f"{gzip.metrics:,}"),
    ]
    return _table(("bytes on the wire, with the headers of HTTP", "plain", "gzip"), rows)


def format_estimate(result: FleetResult, plain: Wire, gzip: Wire) -> str:
    """Return the formulas, with values for hosts that no machine here can simulate."""
    hosts, per_day = ESTIMATED_HOSTS, KILLS_PER_DAY
    kills_s, exports_s = hosts * per_day / _DAY_S, hosts / INTERVAL_S
    cores = kills_s / result.kills_per_core_s + exports_s / result.exports_per_core_s
    plain_mb, gzip_mb = (
        (kills_s * (each.log + each.span) + exports_s * each.metrics) / 1e6
        for each in (plain, gzip)
    )
    per_day_gb = hosts * per_day / result.rows / 1e9
    stored_gb, without_gb = (
        each * per_day_gb for each in (result.stored_bytes, result.without_host_bytes)
    )
    series = hosts * result.series_per_host
    returns_per_s = hosts / _MEAN_WAIT_S
    memory_gb = series * result.prometheus_mb / result.series / 1e3
    rows = [
        (
            "cores of gateways",
            "N · (k / 86,400 / K + 1 / i / M)",
            f"{cores:.1f}, of which kills {kills_s / result.kills_per_core_s:.2f}",
        ),
        (
            "on the wire, MB/s",
            "N · (k · b / 86,400 + m / i)",
            f"{plain_mb:.1f} plain, {gzip_mb:.1f} with gzip",
        ),
        (
            "at rest, GB a day",
            "N · k · r",
            f"{stored_gb:.1f}, {without_gb:.1f} without `host.name` in streams",
        ),
        ("series", "N · s", f"{series / 1e6:.1f} million"),
        ("memory of Prometheus, GB", "N · s · p", f"{memory_gb:.0f}"),
        ("connections to gateways", "3 · N", f"{3 * hosts:,}"),
        ("requests a second during an outage", "N / 30", f"{returns_per_s:,.0f}"),
        ("most hosts that are back in a second", "N / 30", f"{returns_per_s:,.0f}"),
        (
            "cores of gateways in that second, a kill a host",
            "N / 30 / K",
            f"{returns_per_s / result.kills_per_core_s:.1f}",
        ),
    ]
    head = ("", "formula", f"N = {hosts:,}, k = {per_day}, i = {INTERVAL_S:.0f} s")
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
