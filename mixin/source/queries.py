"""Parts of queries that several rules and panels share."""

from __future__ import annotations

from typing import Final

from mixin.source.names import event, field, label, metric

HOST: Final = tuple(map(label, ("k8s.cluster.name", "host.id", "host.name", "k8s.node.name")))
"""Labels of the host, which the agent's resource has."""
OF_HOST: Final = ("k8s.cluster.name", "host.name", "k8s.node.name")
"""Attributes of the host by which an alert is routed."""
BY_HOST: Final = ", ".join(map(label, OF_HOST))
OWNER: Final = (
    *("service.name", "service.namespace"),
    *("k8s.namespace.name", "k8s.container.name", "container.name"),
)
"""Attributes of the victim by which an alert finds those who can do something."""
KILLED: Final = ("killed", "signalled")
"""Values of ``oom.outcome`` of a process that an OOM killer ended, or was about to."""

OUTCOME: Final = label("oom.outcome")
KILLER: Final = label("oom.killer.name")
SCOPE: Final = label("oom.limit.scope")
GROWTH: Final = label("oom.growth.kind")
CAUSE: Final = label("oom.cause")
SIGNAL: Final = label("otel_oom.signal")
KIND: Final = label("otel_oom.event.kind")
ERROR: Final = label("error.type")


def join_labels(*names: str) -> str:
    """Return names as a list within a query."""
    return ", ".join(names)


def select_loki(name: str, *filters: str) -> str:
    """Return the LogQL query of the log events with this name.

    The label is that of ``collector-config/loki.yaml``.
    """
    return " | ".join([f'{{oom_event="{event(name)}"}}', *filters])


def select_victorialogs(name: str, *filters: str) -> str:
    """Return the LogsQL query of the log events with this name."""
    return " ".join([f'event_name:="{event(name)}"', *filters])


def killed_loki() -> str:
    """Return the LogQL filter of victims that were killed."""
    return f'{OUTCOME}=~"{"|".join(KILLED)}"'


def killed_victorialogs() -> str:
    """Return the LogsQL filter of victims that were killed."""
    return f"{field('oom.outcome')}:in({', '.join(KILLED)})"


def rename_victorialogs(*attributes: str) -> str:
    """Return the pipe that renames attributes to the names that labels have elsewhere."""
    return "rename " + ", ".join(f"{field(name)} as {label(name)}" for name in attributes)


KILLS: Final = metric("oom.kills")
QUEUE_AGE: Final = metric("otel_oom.queue.age")
