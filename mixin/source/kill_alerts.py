"""Alerts on what the agent reports."""

from __future__ import annotations

from typing import Final

from mixin.source.alert import Alert
from mixin.source.names import field, label, metric
from mixin.source.queries import (
    BY_HOST,
    GROWTH,
    KILLED,
    KIND,
    OF_HOST,
    OUTCOME,
    OWNER,
    SCOPE,
    join_labels,
    killed_loki,
    killed_victorialogs,
    rename_victorialogs,
    select_loki,
    select_victorialogs,
)
from mixin.source.recordings import KILLS_1H, KILLS_10M, merge_targets, with_host

_BY_OWNER: Final = join_labels(*map(label, (*OF_HOST, *OWNER)))
_KILLED: Final = f'{OUTCOME}=~"{"|".join(KILLED)}"'
_VICTIM: Final = (
    "{{ with $labels.service_name }}{{ . }}{{ else }}a service without a name{{ end }}"
    "{{ with $labels.k8s_namespace_name }} in namespace {{ . }}{{ end }}"
    "{{ with $labels.k8s_cluster_name }} of cluster {{ . }}{{ end }}"
    " on {{ $labels.host_name }}"
)
_EVENTS: Final = (
    "`otel-oom events` on the host, or the dashboard, names process, limit, cause and advice."
)


def count_loki(query: str, by: str, window: str, condition: str) -> str:
    """Return the LogQL expression of a count in a window that meets a condition."""
    return f"sum by ({by}) (\n  count_over_time({query} [{window}])\n) {condition}"


def count_victorialogs(
    query: str, by: tuple[str, ...], window: str, condition: str, pipe: str = "count() count"
) -> str:
    """Return the LogsQL expression of a count in a window that meets a condition."""
    names = join_labels(*map(label, by))
    return "\n".join(
        (
            f"_time:{window} {query}",
            f"| {rename_victorialogs(*by)}",
            f"| stats by ({names}) {pipe}",
            f"| filter count:{condition}",
        )
    )


def _counted(name: str, window: str) -> str:
    """Return what an agent has stored of a kind of event since its start, within a window.

    A series that begins above zero is new as well.
    """
    stored = f'{metric("otel_oom.event.stored")}{{{KIND}="{name}"}}'
    growth = f"(\n    increase({stored}[{window}]) > 0\n    or\n"
    before = merge_targets(f"{stored} offset {window}")
    growth += f"    ({merge_targets(stored)} unless {before}) > 0\n  )"
    return f"max by ({BY_HOST}) (\n  {with_host(growth)}\n)"


_KILL_LOKI: Final = select_loki("oom.kill", killed_loki())
_KILL_LOGSQL: Final = select_victorialogs("oom.kill", killed_victorialogs())

KILL_ALERTS: Final = (
    Alert(
        "OomKill",
        "warning",
        f"OOM kill of {_VICTIM}",
        "{{ $value | humanize }} OOM kills of "
        f"{_VICTIM} in 10 minutes"
        "{{ with $labels.k8s_container_name }}, container {{ . }}{{ end }}"
        "{{ with $labels.container_name }}, container {{ . }}{{ end }}. "
        f"{_EVENTS}",
        prometheus=f"sum by ({_BY_OWNER}) ({KILLS_10M}{{{_KILLED}}}) > 0",
        loki=count_loki(_KILL_LOKI, _BY_OWNER, "10m", "> 0"),
        victorialogs=count_victorialogs(_KILL_LOGSQL, (*OF_HOST, *OWNER), "10m", ">0"),
    ),
    Alert(
        "OomKillRepeating",
        "critical",
        f"Repeated OOM kills of {_VICTIM}",
        "{{ $value | humanize }} OOM kills of "
        f"{_VICTIM} in an hour: a restart does not help. {_EVENTS}",
        prometheus=f"sum by ({_BY_OWNER}) ({KILLS_1H}{{{_KILLED}}}) >= 3",
        loki=count_loki(_KILL_LOKI, _BY_OWNER, "1h", ">= 3"),
        victorialogs=count_victorialogs(_KILL_LOGSQL, (*OF_HOST, *OWNER), "1h", ">=3"),
    ),
    Alert(
        "OomKillHostWide",
        "critical",
        "{{ $labels.host_name }} itself was out of memory",
        "{{ $value | humanize }} OOM kills in 10 minutes because {{ $labels.host_name }} as a "
        f"whole was out of memory: any process can be the next victim. {_EVENTS}",
        prometheus=f'sum by ({BY_HOST}) ({KILLS_10M}{{{_KILLED}, {SCOPE}="host"}}) > 0',
        loki=count_loki(
            select_loki("oom.kill", killed_loki(), f'{SCOPE}="host"'), BY_HOST, "10m", "> 0"
        ),
        victorialogs=count_victorialogs(
            f'{_KILL_LOGSQL} {field("oom.limit.scope")}:="host"', OF_HOST, "10m", ">0"
        ),
    ),
    Alert(
        "OomGrowing",
        "warning",
        f"Memory of {_VICTIM} grows to its limit",
        "{{ $value | humanize }} OOM kills in an hour of "
        f"{_VICTIM} came after steady growth, as of a leak: a higher limit only delays the next. "
        f"{_EVENTS}",
        prometheus=f'sum by ({_BY_OWNER}) ({KILLS_1H}{{{_KILLED}, {GROWTH}="leak"}}) > 0',
        loki=count_loki(
            select_loki("oom.kill", killed_loki(), f'{GROWTH}="leak"'), _BY_OWNER, "1h", "> 0"
        ),
        victorialogs=count_victorialogs(
            f'{_KILL_LOGSQL} {field("oom.growth.kind")}:="leak"', (*OF_HOST, *OWNER), "1h", ">0"
        ),
    ),
    Alert(
        "OomNoVictim",
        "critical",
        "Out of memory without a victim on {{ $labels.host_name }}",
        "The kernel found no process to kill on {{ $labels.host_name }}: its tasks wait for "
        "memory, or fail. `otel-oom events` on the host names the limit.",
        prometheus=_counted("no_victim", "10m"),
        loki=count_loki(select_loki("oom.no_victim"), BY_HOST, "10m", "> 0"),
        victorialogs=count_victorialogs(select_victorialogs("oom.no_victim"), OF_HOST, "10m", ">0"),
    ),
    Alert(
        "OomPanic",
        "critical",
        "{{ $labels.host_name }} rebooted after an out-of-memory panic",
        "A previous boot of {{ $labels.host_name }} ended in an out-of-memory panic. "
        "`otel-oom events` on the host has the kernel's message.",
        prometheus=_counted("panic", "1h"),
        loki=count_loki(select_loki("oom.panic"), BY_HOST, "1h", "> 0"),
        victorialogs=count_victorialogs(select_victorialogs("oom.panic"), OF_HOST, "1h", ">0"),
    ),
    Alert(
        "OomMissed",
        "warning",
        "OOM kills on {{ $labels.host_name }} without an event",
        "Kernel or systemd of {{ $labels.host_name }} counted {{ $value | humanize }} OOM kills "
        "that no event reports.",
        prometheus=f'sum by ({BY_HOST}) ({KILLS_10M}{{{OUTCOME}="missed"}}) > 0',
        loki=(
            f"sum by ({BY_HOST}) (\n  sum_over_time({select_loki('oom.missed')} | "
            f"unwrap {label('oom.missed.count')} [10m])\n) > 0"
        ),
        victorialogs=count_victorialogs(
            select_victorialogs("oom.missed"),
            OF_HOST,
            "10m",
            ">0",
            f"sum({field('oom.missed.count')}) count",
        ),
    ),
)
