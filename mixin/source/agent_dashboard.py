"""The dashboard of the agent's own health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from mixin.source import panels
from mixin.source.names import label, metric
from mixin.source.queries import ERROR, KIND, QUEUE_AGE, SIGNAL
from mixin.source.recordings import KERNEL_COUNT, OWN_COUNT
from mixin.source.variables import METRICS, cluster_variable, host_variable, source_variable

_JOIN: Final = f"* {panels.AGENT_HOST}"
_RATE: Final = "[$__rate_interval]"
_BY_HOST: Final = label("host.name")
_Query = tuple[str, str]


def agent_dashboard() -> Dashboard:
    """Return the dashboard."""
    dashboard = (
        Dashboard("otel-oom agents")
        .uid("otel-oom-agent")
        .description("Delivery, losses and resources of the agents of otel-oom.")
        .tags(["otel-oom"])
        .time("now-6h", "now")
        .refresh("1m")
        .readonly()
    )
    for variable in (
        source_variable("metrics", "prometheus", "Metrics"),
        cluster_variable(),
        host_variable(),
    ):
        dashboard.with_variable(variable)
    _add_overview(dashboard)
    for row, entries in _ROWS:
        dashboard.with_row(Row(row))
        for title, text, queries, unit in entries:
            lines = [
                panels.metric_query(expr, legend, chr(ord("A") + number))
                for number, (expr, legend) in enumerate(queries)
            ]
            dashboard.with_panel(panels.series_panel(title, text, lines, unit, panels.THIRD))
    return dashboard


def _add_overview(dashboard: Dashboard) -> None:
    lost = f'{metric("otel_oom.event.lost")}{{{KIND}!="exit"}}'
    dashboard.with_row(Row("Overview"))
    for title, text, expr in (
        ("Waiting for over 10 minutes", "Hosts.", f"count({QUEUE_AGE} {_JOIN} > 600)"),
        ("Rejected for good", "Dead letters.", f"sum({metric(_DEAD)} {_JOIN})"),
        ("Lost", "Events, in the time range.", f"sum(increase({lost}[$__range]) {_JOIN})"),
        (
            "Dropped",
            "Messages at the size limit, in the time range.",
            f"sum(increase({metric('otel_oom.queue.dropped')}[$__range]) {_JOIN})",
        ),
    ):
        query = panels.metric_query(expr).instant()
        dashboard.with_panel(panels.count_panel(title, text, query, METRICS))


_USAGE: Final = metric("otel_oom.ring_buffer.usage")
_SIZE: Final = metric("otel_oom.ring_buffer.limit")
_DEAD: Final = "otel_oom.dead_letters"


def _sum(name: str, by: str, *, is_rate: bool = False) -> str:
    expr = f"rate({metric(name)}{_RATE})" if is_rate else metric(name)
    return f"sum by ({by}) ({expr} {_JOIN})"


def _quantile(name: str, quantile: float, by: str) -> str:
    buckets = f"rate({metric(name)}_bucket{_RATE}) {_JOIN}"
    return f"histogram_quantile({quantile}, sum by (le, {by}) ({buckets}))"


_LEGEND: Final = f"{{{{{_BY_HOST}}}}}"
_OF_SIGNAL: Final = f"{_LEGEND} {{{{{SIGNAL}}}}}"
_HOST_SIGNAL: Final = f"{_BY_HOST}, {SIGNAL}"
_HOST_ERROR: Final = f"{_BY_HOST}, {ERROR}"
_OF_ERROR: Final = f"{_LEGEND} {{{{{ERROR}}}}}"
_ROWS: Final[Sequence[tuple[str, Sequence[tuple[str, str, Sequence[_Query], str]]]]] = (
    (
        "Delivery",
        (
            (
                "Age of the oldest message",
                "0 if all is delivered.",
                [(f"max by ({_HOST_SIGNAL}) ({QUEUE_AGE} {_JOIN})", _OF_SIGNAL)],
                "s",
            ),
            (
                "Messages on disk",
                "Waiting for a backend.",
                [
                    (_sum("otel.sdk.processor.log.queue.size", _BY_HOST), f"{_LEGEND} logs"),
                    (_sum("otel.sdk.processor.span.queue.size", _BY_HOST), f"{_LEGEND} traces"),
                ],
                "short",
            ),
            (
                "Delivery time",
                "From the kernel to the backend.",
                [
                    (_quantile("otel_oom.delivery.duration", 0.5, SIGNAL), f"p50 {{{{{SIGNAL}}}}}"),
                    (
                        _quantile("otel_oom.delivery.duration", 0.99, SIGNAL),
                        f"p99 {{{{{SIGNAL}}}}}",
                    ),
                ],
                "s",
            ),
            (
                "Accepted and rejected",
                "Records a second; rejected ones have an error.",
                [
                    (
                        _sum("otel.sdk.exporter.log.exported", _HOST_ERROR, is_rate=True),
                        f"{_OF_ERROR} logs",
                    ),
                    (
                        _sum("otel.sdk.exporter.span.exported", _HOST_ERROR, is_rate=True),
                        f"{_OF_ERROR} traces",
                    ),
                ],
                "short",
            ),
            (
                "Dead letters",
                "Rejected messages on disk.",
                [(_sum(_DEAD, _HOST_SIGNAL), _OF_SIGNAL)],
                "short",
            ),
            (
                "Parked",
                "Rejected alone, and retried.",
                [(_sum("otel_oom.queue.parked", _HOST_SIGNAL), _OF_SIGNAL)],
                "short",
            ),
        ),
    ),
    (
        "Capture",
        (
            (
                "Events stored",
                "A second, by kind.",
                [(_sum("otel_oom.event.stored", KIND, is_rate=True), f"{{{{{KIND}}}}}")],
                "short",
            ),
            (
                "Events lost",
                "A second, before they reached the agent.",
                [(_sum("otel_oom.event.lost", _HOST_ERROR, is_rate=True), _OF_ERROR)],
                "short",
            ),
            (
                "Kernel buffer",
                "Peak usage, by its size.",
                [
                    (
                        f"{_USAGE} / {_SIZE} {_JOIN}",
                        _LEGEND,
                    )
                ],
                "percentunit",
            ),
            (
                "Counts of this boot",
                "The kernel's by node_exporter, and the agent's since its installation.",
                [
                    (f'{KERNEL_COUNT}{{{_BY_HOST}=~"$host"}}', f"{_LEGEND} kernel"),
                    (f'{OWN_COUNT}{{{_BY_HOST}=~"$host"}}', f"{_LEGEND} otel-oom"),
                ],
                "short",
            ),
        ),
    ),
    (
        "Resources",
        (
            (
                "Memory",
                "Resident.",
                [(f"{metric('process.memory.usage')} {_JOIN}", _LEGEND)],
                "bytes",
            ),
            (
                "CPU",
                "Share of a core.",
                [(_sum("process.cpu.time", _BY_HOST, is_rate=True), _LEGEND)],
                "percentunit",
            ),
            ("Uptime", "Of the agent.", [(f"{metric('process.uptime')} {_JOIN}", _LEGEND)], "s"),
        ),
    ),
)
