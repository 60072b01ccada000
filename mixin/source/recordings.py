"""Recording rules of Prometheus: kills and agents by host.

The metrics come by OTLP or by a scrape, with other ``job`` and ``instance``. So the host is read
from ``target_info``, which both have.
"""

from __future__ import annotations

from typing import Final

from mixin.source.names import label
from mixin.source.queries import (
    CAUSE,
    GROWTH,
    HOST,
    KILLER,
    KILLS,
    OUTCOME,
    OWNER,
    QUEUE_AGE,
    SCOPE,
    SIGNAL,
)
from mixin.source.queries import join_labels as join

AGENT: Final = "instance:otel_oom_info:max"
"""1 for each agent, with its host."""
KILLS_BY_HOST: Final = "host:oom_kills:max"
"""Kills by host, outcome and owner; they go on where an agent gets another address."""
KILLS_10M: Final = "host:oom_kills:increase10m"
KILLS_1H: Final = "host:oom_kills:increase1h"
KERNEL_COUNT: Final = "host:node_vmstat_oom_kill:max"
"""The kernel's own count by ``host_name``, from node_exporter."""
OWN_COUNT: Final = "host:oom_kills_kernel:sum"
"""The agent's count of the same kills."""

ATTRIBUTES: Final = (OUTCOME, KILLER, SCOPE, GROWTH, CAUSE, *map(label, OWNER))
_HOST_NAME: Final = label("host.name")
_OUTAGE: Final = "2h"
"""The longest outage of an agent after which its kills count as growth."""


_TARGET: Final = ("container", "endpoint", "namespace", "node", "pod", "service")
"""Labels of what Prometheus scraped, which for a gateway is not the agent."""


def merge_targets(selector: str) -> str:
    """Return each series of an agent once, also where several gateways of it are scraped."""
    return f"max without ({join(*_TARGET)}) ({selector})"


def with_host(expr: str) -> str:
    """Add the labels of the host to metrics of an agent."""
    return f"{expr} * on (job, instance) group_left ({join(*HOST)}) {AGENT}"


def list_recordings() -> dict[str, str]:
    """Return the expressions by the names that they are recorded as, in the order of evaluation."""
    agents = f'{QUEUE_AGE}{{{SIGNAL}="logs"}}'
    return {
        # One for each agent, also where its host has just got another name: a second one would be
        # an error of all rules below, for all hosts.
        AGENT: f"""\
topk by (job, instance) (
  1,
  max by (job, instance, {join(*HOST)}) (target_info and on (job, instance) {agents})
)
or
label_replace(
  max by (job, instance) ({agents} * 0 + 1) unless on (job, instance) target_info,
  "{_HOST_NAME}", "$1", "instance", "(.*)"
)""",
        # The sum is over attributes that are not named here, the maxima over several deliveries of
        # one agent's metrics.
        KILLS_BY_HOST: f"""\
max by ({join(*HOST, *ATTRIBUTES)}) (
  {with_host(f"sum by ({join('job', 'instance', *ATTRIBUTES)}) ({merge_targets(KILLS)})")}
)""",
        KILLS_10M: _increase(KILLS_BY_HOST, "10m"),
        KILLS_1H: _increase(KILLS_BY_HOST, "1h"),
        KERNEL_COUNT: f"""\
max by ({_HOST_NAME}) (
  label_replace(
    node_vmstat_oom_kill * on (job, instance) group_left (nodename) node_uname_info,
    "{_HOST_NAME}", "$1", "nodename", "(.*)"
  )
)""",
        OWN_COUNT: f"""\
sum by ({_HOST_NAME}) (
  {KILLS_BY_HOST}{{{KILLER}="", {OUTCOME}=~"killed|missed|dropped"}}
)""",
    }


def _increase(name: str, window: str) -> str:
    """Return the growth in a window, of series that begin within it as well.

    ``increase()`` ignores the first value of a series, which is the first kill of a service. A
    count that an agent brings along when it is installed is no growth.
    """
    before = f"last_over_time({name}[{_OUTAGE}] offset {window})"
    return f"""\
clamp_min(
  {name} - {before}
  or
  {name} unless {before},
  0
)
and on ({join(*HOST)}) {before}"""
