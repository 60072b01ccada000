"""Variables of the dashboards."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from mixin.source.names import label
from mixin.source.recordings import AGENT, KILLS_BY_HOST

METRICS: Final = DataSourceRef(type_val="prometheus", uid="${metrics}")
LOKI: Final = DataSourceRef(type_val="loki", uid="${logs}")
VICTORIALOGS: Final = DataSourceRef(type_val="victoriametrics-logs-datasource", uid="${logs}")

CLUSTER: Final = label("k8s.cluster.name")
NAMESPACE: Final = label("k8s.namespace.name")
HOST_NAME: Final = label("host.name")


def source_variable(name: str, plugin: str, title: str) -> DatasourceVariable:
    """Return the variable of a data source of this plugin."""
    return DatasourceVariable(name).type(plugin).label(title)


def _values(name: str, title: str, query: str) -> QueryVariable:
    everything = VariableOption(text="All", value="$__all")
    return (
        QueryVariable(name)
        .label(title)
        .datasource(METRICS)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(everything)
    )


def cluster_variable() -> QueryVariable:
    """Return the variable of clusters."""
    return _values("cluster", "Cluster", f"label_values({AGENT}, {CLUSTER})")


def namespace_variable() -> QueryVariable:
    """Return the variable of namespaces in which something was killed."""
    return _values("namespace", "Namespace", f"label_values({KILLS_BY_HOST}, {NAMESPACE})")


def host_variable() -> QueryVariable:
    """Return the variable of hosts with an agent."""
    query = f'label_values({AGENT}{{{CLUSTER}=~"$cluster"}}, {HOST_NAME})'
    return _values("host", "Host", query)
