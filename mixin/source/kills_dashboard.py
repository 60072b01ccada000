"""The dashboard of OOM kills, for Loki or VictoriaLogs as the source of logs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.logs import Panel as Logs
from grafana_foundation_sdk.builders.loki import Dataquery as LokiQuery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from mixin.source import panels
from mixin.source.names import label, metric
from mixin.source.queries import (
    CAUSE,
    KILLED,
    KILLER,
    OUTCOME,
    SCOPE,
    select_loki,
    select_victorialogs,
)
from mixin.source.recordings import KILLS_BY_HOST
from mixin.source.variables import (
    CLUSTER,
    HOST_NAME,
    LOKI,
    METRICS,
    NAMESPACE,
    VICTORIALOGS,
    cluster_variable,
    host_variable,
    namespace_variable,
    source_variable,
)

_VARIABLES: Final = {
    "k8s.cluster.name": "$cluster",
    "k8s.namespace.name": "$namespace",
    "host.name": "$host",
}
_OF_HOST: Final = {name: _VARIABLES[name] for name in ("k8s.cluster.name", "host.name")}
_COLUMNS: Final = {
    "host.name": "host",
    "service.name": "service",
    "k8s.pod.name": "pod",
    "process.executable.name": "process",
    "oom.victim.memory.resident": "resident",
    "oom.limit.scope": "limit of",
    "oom.limit.memcg.path": "cgroup",
    "oom.limit.memcg.limit": "limit",
    "oom.cause": "cause",
    "oom.repeat.count": "in a row",
    "oom.advice": "advice",
}
"""Attributes in the table of kills, with the titles of their columns."""
_OTHERS: Final = ("oom.no_victim", "oom.panic", "oom.missed", "oom.dropped")
_SELECTED: Final = f'{CLUSTER}=~"$cluster", {HOST_NAME}=~"$host"'
_KILLS: Final = f'{KILLS_BY_HOST}{{{_SELECTED}, {NAMESPACE}=~"$namespace"'
_KILLED: Final = f'{OUTCOME}=~"{"|".join(KILLED)}"'
_NODES: Final = 'on (job, instance) group_left (nodename) node_uname_info{nodename=~"$host"}'


@dataclass(frozen=True)
class LogSource:
    """A source of logs: its plugin, and its queries for events of a name."""

    name: str
    plugin: str
    ref: DataSourceRef
    count: Callable[[str, dict[str, str]], Builder[Any]]
    table: Callable[[], Builder[Any]]
    lines: Callable[[], Builder[Any]]


def _query_loki(expr: str) -> LokiQuery:
    return LokiQuery().expr(expr).ref_id("A")


def _count_loki(name: str, wanted: dict[str, str]) -> Builder[Any]:
    query = select_loki(name, *_match_loki(wanted))
    return _query_loki(f"sum(count_over_time({query} [$__range]))").instant(instant=True)


def _table_loki() -> Builder[Any]:
    uid = label("log.record.uid")
    show = f'label_format show="otel-oom show {{{{.{uid}}}}}"'
    keep = "keep " + ", ".join([*map(label, _COLUMNS), "trace_id", "show"])
    return _query_loki(select_loki("oom.kill", *_match_loki(_VARIABLES), show, keep))


def _lines_loki() -> Builder[Any]:
    names = "|".join(_OTHERS).replace(".", r"\\.")
    query = " | ".join([f'{{oom_event=~"{names}"}}', *_match_loki(_OF_HOST)])
    return _query_loki(query)


def _match_loki(wanted: dict[str, str]) -> list[str]:
    return [f'{label(name)}=~"{variable}"' for name, variable in wanted.items()]


def _count_victorialogs(name: str, wanted: dict[str, str]) -> Builder[Any]:
    query = f"{select_victorialogs(name, *_match_victorialogs(wanted))} | stats count() events"
    return panels.LogsQueryBuilder(panels.LogsQuery(query, "stats"))


def _table_victorialogs() -> Builder[Any]:
    query = select_victorialogs("oom.kill", *_match_victorialogs(_VARIABLES))
    fields = ", ".join(["_time", "_msg", *_COLUMNS, "trace_id", "log.record.uid"])
    names = ", ".join(f"{name} as {label(name)}" for name in _COLUMNS)
    pipes = (query, f"fields {fields}", 'format "otel-oom show <log.record.uid>" as show')
    text = " | ".join([*pipes, f"rename {names}", "delete log.record.uid"])
    return panels.LogsQueryBuilder(panels.LogsQuery(text, "instant"))


def _lines_victorialogs() -> Builder[Any]:
    names = ", ".join(f'"{name}"' for name in _OTHERS)
    query = " ".join([f"event_name:in({names})", *_match_victorialogs(_OF_HOST)])
    return panels.LogsQueryBuilder(panels.LogsQuery(query, "instant"))


def _match_victorialogs(wanted: dict[str, str]) -> list[str]:
    return [f'{name}:~"{variable}"' for name, variable in wanted.items()]


WITH_LOKI: Final = LogSource("Loki", "loki", LOKI, _count_loki, _table_loki, _lines_loki)
WITH_VICTORIALOGS: Final = LogSource(
    "VictoriaLogs",
    "victoriametrics-logs-datasource",
    VICTORIALOGS,
    _count_victorialogs,
    _table_victorialogs,
    _lines_victorialogs,
)


def kills_dashboard(logs: LogSource) -> Dashboard:
    """Return the dashboard with this source of logs."""
    suffix = "" if logs is WITH_LOKI else " (VictoriaLogs)"
    dashboard = (
        Dashboard(f"OOM kills{suffix}")
        .uid("oom-kills" if logs is WITH_LOKI else "oom-kills-victorialogs")
        .description(f"OOM kills by otel-oom: counts by Prometheus, events by {logs.name}.")
        .tags(["otel-oom"])
        .time("now-24h", "now")
        .refresh("1m")
        .readonly()
    )
    for variable in (
        source_variable("metrics", "prometheus", "Metrics"),
        source_variable("logs", logs.plugin, "Logs"),
        source_variable("traces", "jaeger", "Traces"),
        cluster_variable(),
        namespace_variable(),
        host_variable(),
    ):
        dashboard.with_variable(variable)
    _add_overview(dashboard, logs)
    _add_kills(dashboard)
    dashboard.with_row(Row("Events"))
    table = panels.kills_table(logs.ref, logs.table(), _table_titles())
    for name in ("oom.victim.memory.resident", "oom.limit.memcg.limit"):
        table.override_by_name(_COLUMNS[name], panels.unit_property("bytes"))
    dashboard.with_panel(table.override_by_name("trace", panels.trace_link()))
    lines = Logs().title("Out of memory without a victim, panics, missed and dropped kills")
    dashboard.with_panel(
        lines.datasource(logs.ref).with_target(logs.lines()).span(panels.WHOLE).height(8)
    )
    _add_host(dashboard)
    return dashboard


def _table_titles() -> dict[str, str]:
    titles = {label(name): title for name, title in _COLUMNS.items()}
    return {"Time": "time", **titles, "trace_id": "trace", "show": "on the host"}


def _growth(matchers: str, by: str = "", window: str = "$__range") -> str:
    """Return the growth of the count in a window, also of series that began within it."""
    now = f"sum by ({by}) (last_over_time({_KILLS}, {matchers}}}[{window}]))"
    before = f"sum by ({by}) ({_KILLS}, {matchers}}} offset {window})"
    return f"clamp_min({now} - ({before} or {now} * 0), 0)"


def _add_overview(dashboard: Dashboard, logs: LogSource) -> None:
    kills = panels.metric_query(_growth(_KILLED)).instant()
    missed = panels.metric_query(_growth(f'{OUTCOME}="missed"')).instant()
    dashboard.with_row(Row("Overview"))
    for panel in (
        panels.count_panel("Kills", "Victims in the time range.", kills, METRICS),
        panels.count_panel(
            "Host out of memory",
            "Victims because a host as a whole was out of memory.",
            panels.metric_query(_growth(f'{_KILLED}, {SCOPE}="host"')).instant(),
            METRICS,
        ),
        panels.count_panel("Missed", "Kills that the kernel alone counted.", missed, METRICS),
        panels.count_panel(
            "No victim",
            "Out of memory without a process to kill.",
            logs.count("oom.no_victim", _OF_HOST),
            logs.ref,
        ),
        panels.count_panel(
            "Panics",
            "Boots that ended in an out-of-memory panic.",
            logs.count("oom.panic", _OF_HOST),
            logs.ref,
        ),
        _last_kill(),
    ):
        dashboard.with_panel(panel)


def _last_kill() -> Stat:
    own = metric("oom.last_kill.time")
    expr = f"max({own} * {panels.AGENT_HOST}) * 1000"
    return (
        Stat()
        .title("Last kill")
        .description("When the last victim died.")
        .datasource(METRICS)
        .with_target(panels.metric_query(expr).instant())
        .unit("dateTimeFromNow")
        .no_value("none")
        .span(4)
        .height(4)
    )


def _add_kills(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Kills over time"))
    for title, by, text, matchers in (
        ("Kills by cause", CAUSE, "By docs/causes.md; without a name none was decided.", _KILLED),
        ("Kills by limit", SCOPE, "Whose limit was reached.", _KILLED),
        ("Kills by OOM killer", KILLER, "The kernel has no name.", _KILLED),
        ("By outcome", OUTCOME, "Outcomes of all victims.", f'{OUTCOME}!=""'),
    ):
        query = panels.metric_query(_growth(matchers, by, "$__interval"), f"{{{{{by}}}}}")
        dashboard.with_panel(panels.bars_panel(title, text, query).span(panels.HALF))
    service = label("service.name")
    for title, by, names in (
        ("Top services", f"{service}, {NAMESPACE}", {service: "service", NAMESPACE: "namespace"}),
        ("Top namespaces", NAMESPACE, {NAMESPACE: "namespace"}),
        ("Top hosts", HOST_NAME, {HOST_NAME: "host"}),
    ):
        expr = f"topk(10, {_growth(_KILLED, by)} > 0)"
        dashboard.with_panel(panels.top_panel(title, "Most kills in the range.", expr, names))
    buckets = f"{metric('oom.victim.memory')}_bucket"
    for title, quantile in (("Memory of victims, median", 0.5), ("Memory of victims, 95 %", 0.95)):
        grown = f"sum by (le) (increase({buckets}[$__range]) * {panels.AGENT_HOST})"
        query = panels.metric_query(f"histogram_quantile({quantile}, {grown})").instant()
        dashboard.with_panel(
            Stat()
            .title(title)
            .description("What victims held at their mark, in the time range.")
            .datasource(METRICS)
            .with_target(query)
            .unit("bytes")
            .no_value("none")
            .span(panels.HALF)
            .height(4)
        )


def _add_host(dashboard: Dashboard) -> None:
    dashboard.with_row(Row("Hosts, by node_exporter"))
    available = f"node_memory_MemAvailable_bytes * {_NODES}"
    waiting = f"rate(node_pressure_memory_waiting_seconds_total[$__rate_interval]) * {_NODES}"
    counted = f"increase(node_vmstat_oom_kill[$__range]) * {_NODES}"
    for title, text, expr, unit in (
        ("Available memory", "Of the host as a whole.", available, "bytes"),
        ("Memory pressure", "Share of time in which a task waited.", waiting, "percentunit"),
        ("The kernel's own count", "OOM kills in the time range.", counted, "short"),
    ):
        query = panels.metric_query(expr, "{{nodename}}")
        dashboard.with_panel(panels.series_panel(title, text, [query], unit, panels.THIRD))
