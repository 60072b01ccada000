"""Alerts on the agent itself."""

from __future__ import annotations

from typing import Final

from mixin.source.alert import Alert
from mixin.source.kill_alerts import count_loki, count_victorialogs
from mixin.source.names import label, metric
from mixin.source.queries import (
    BY_HOST,
    ERROR,
    KIND,
    OF_HOST,
    QUEUE_AGE,
    SIGNAL,
    select_loki,
    select_victorialogs,
)
from mixin.source.recordings import AGENT, KERNEL_COUNT, OWN_COUNT, with_host

_HOST_NAME: Final = label("host.name")
_UNAME: Final = f'label_replace(node_uname_info, "{_HOST_NAME}", "$1", "nodename", "(.*)")'
_UNAME_BEFORE: Final = _UNAME.replace("node_uname_info", "last_over_time(node_uname_info[6h])")
_DROPPED: Final = metric("otel_oom.queue.dropped")
_LOST: Final = f'{metric("otel_oom.event.lost")}{{{KIND}!="exit"}}'

AGENT_ALERTS: Final = (
    Alert(
        "OtelOomBackendAway",
        "warning",
        "otel-oom on {{ $labels.host_name }} cannot deliver {{ $labels.otel_oom_signal }}",
        "The oldest message has waited for {{ $value | humanizeDuration }} on "
        "{{ $labels.host_name }}. Nothing is lost up to the size limit of the store.",
        prometheus=(f"max by ({BY_HOST}, {SIGNAL}) (\n  {with_host(QUEUE_AGE)}\n) > 600"),
        for_="5m",
    ),
    Alert(
        "OtelOomRefused",
        "warning",
        "A backend rejects {{ $labels.otel_oom_signal }} of otel-oom on {{ $labels.host_name }}",
        "{{ $value | humanize }} messages of {{ $labels.host_name }} were rejected, and are kept "
        "as dead letters or retried alone. `otel-oom queue` on the host has the reason.",
        prometheus=(
            f"max by ({BY_HOST}, {SIGNAL}) (\n  "
            + with_host(
                f"(\n    {metric('otel_oom.dead_letters')} + {metric('otel_oom.queue.parked')}\n  )"
            )
            + "\n) > 0"
        ),
        for_="15m",
    ),
    Alert(
        "OtelOomLosing",
        "critical",
        "otel-oom on {{ $labels.host_name }} loses events",
        "{{ $value | humanize }} events or messages of {{ $labels.host_name }} were lost or "
        "dropped in 15 minutes{{ with $labels.error_type }}: {{ . }}{{ end }}.",
        prometheus=(
            f"sum by ({BY_HOST}, {ERROR}) (\n  "
            + with_host(
                f"(\n    increase({_LOST}[15m])\n    or\n"
                f'    label_replace(increase({_DROPPED}[15m]), "{ERROR}", "queue_full", "", "")\n'
                "  )"
            )
            + "\n) > 0"
        ),
        loki=count_loki(select_loki("oom.dropped"), BY_HOST, "15m", "> 0"),
        victorialogs=count_victorialogs(select_victorialogs("oom.dropped"), OF_HOST, "15m", ">0"),
    ),
    Alert(
        "OtelOomSilent",
        "warning",
        "otel-oom on {{ $labels.host_name }} sends no metrics",
        "The agent on {{ $labels.host_name }} sent metrics in the last 6 hours, and sends none "
        "now.",
        # A host whose node_exporter is silent too is gone, which is for other alerts.
        prometheus=f"""\
group by ({BY_HOST}) (last_over_time({AGENT}[6h]))
unless on ({_HOST_NAME}) {AGENT}
unless on ({_HOST_NAME}) ({_UNAME_BEFORE} unless on ({_HOST_NAME}) {_UNAME})""",
        for_="10m",
    ),
    Alert(
        "OtelOomCountMismatch",
        "critical",
        "otel-oom on {{ $labels.host_name }} counts fewer OOM kills than the kernel",
        "The kernel of {{ $labels.host_name }} counted {{ $value | humanize }} OOM kills more than "
        "the agent in an hour, by node_exporter.",
        # The kernel can count the first kill of a group twice. The agent's window is longer at both
        # ends, as the two are read at different times.
        prometheus=f"""\
(
  ({KERNEL_COUNT} offset 5m - {KERNEL_COUNT} offset 65m)
  - on ({_HOST_NAME})
  2 * ({OWN_COUNT} - {OWN_COUNT} offset 70m)
) > 0
and on ({_HOST_NAME}) {OWN_COUNT} >= {OWN_COUNT} offset 70m""",
        for_="5m",
    ),
)
