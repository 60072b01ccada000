"""Panels of the dashboards, and the parts that they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders.common import ReduceDataOptions, VizLegendOptions
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery as PrometheusQuery
from grafana_foundation_sdk.builders.stat import Panel as Stat
from grafana_foundation_sdk.builders.table import Panel as Table
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog import variants
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from mixin.source.recordings import AGENT
from mixin.source.variables import CLUSTER, HOST_NAME, METRICS, VICTORIALOGS

THIRD: Final = 8
HALF: Final = 12
WHOLE: Final = 24
"""Widths."""
AGENT_HOST: Final = (
    f"on (job, instance) group_left ({CLUSTER}, {HOST_NAME}) "
    f'{AGENT}{{{CLUSTER}=~"$cluster", {HOST_NAME}=~"$host"}}'
)
"""The right side of a multiplication that selects agents, and adds their hosts."""


@dataclass
class LogsQuery(variants.Dataquery):
    """A query of VictoriaLogs, as its data source stores it; Grafana's SDK has no such type."""

    expr: str
    query_type: str
    ref_id: str = "A"
    hide: bool | None = None

    def to_json(self) -> dict[str, object]:
        """Return what a dashboard has."""
        return {
            "datasource": VICTORIALOGS,
            "editorMode": "code",
            "expr": self.expr,
            "maxLines": 100,
            "queryType": self.query_type,
            "refId": self.ref_id,
        }


class LogsQueryBuilder(Builder[LogsQuery]):
    """Builds nothing more: a panel accepts builders alone."""

    def __init__(self, query: LogsQuery) -> None:
        self._query = query

    def build(self) -> LogsQuery:
        """Return the query."""
        return self._query


def metric_query(expr: str, legend: str = "", ref_id: str = "A") -> PrometheusQuery:
    """Return a query of Prometheus over the time range."""
    return PrometheusQuery().expr(expr).legend_format(legend).ref_id(ref_id).range()


def instant_query(expr: str, ref_id: str = "A") -> PrometheusQuery:
    """Return a query of Prometheus at the end of the time range, as a table."""
    query = PrometheusQuery().expr(expr).ref_id(ref_id).format(PromQueryFormat.TABLE)
    return query.instant()


def count_panel(title: str, description: str, query: Builder[Any], source: DataSourceRef) -> Stat:
    """Return one number, which is green at 0 and red above."""
    steps = [Threshold(value=None, color="green"), Threshold(value=1, color="red")]
    thresholds = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    return (
        Stat()
        .title(title)
        .description(description)
        .datasource(source)
        .with_target(query)
        .thresholds(thresholds)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("0")
        .span(4)
        .height(4)
    )


def series_panel(
    title: str, description: str, queries: Iterable[PrometheusQuery], unit: str, width: int = HALF
) -> TimeSeries:
    """Return lines over time."""
    legend = (
        VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
    )
    panel = (
        TimeSeries()
        .title(title)
        .description(description)
        .datasource(METRICS)
        .unit(unit)
        .min(0)
        .legend(legend)
        .span(width)
        .height(8)
    )
    for query in queries:
        panel.with_target(query)
    return panel


def bars_panel(title: str, description: str, query: PrometheusQuery) -> TimeSeries:
    """Return stacked bars over time, of kills."""
    panel = series_panel(title, description, [query], "short", THIRD)
    return panel.draw_style(GraphDrawStyle.BARS).fill_opacity(80).decimals(0).interval("1m")


def top_panel(title: str, description: str, expr: str, names: Mapping[str, str]) -> Table:
    """Return a table of the largest values, whose columns have these titles."""
    panel = Table().title(title).description(description).datasource(METRICS)
    panel.with_target(instant_query(expr)).span(THIRD).height(8)
    return panel.with_transformation(arrange_columns({**names, "Value": "kills"}, hide=["Time"]))


def arrange_columns(titles: Mapping[str, str], hide: Iterable[str] = ()) -> DataTransformerConfig:
    """Return the transformation that orders and renames columns, and leaves out ``hide``."""
    options = {
        "excludeByName": dict.fromkeys(hide, True),
        "indexByName": {name: number for number, name in enumerate(titles)},
        "renameByName": dict(titles),
    }
    return DataTransformerConfig(id_val="organize", options=options)


def kills_table(source: DataSourceRef, query: Builder[Any], titles: Mapping[str, str]) -> Table:
    """Return the table of the last kills, with a column for each of ``titles``."""
    panel = Table().title("Last kills").datasource(source).with_target(query)
    panel.description("Newest first. The last columns lead to the trace, and to the host's page.")
    extract = {"source": "labels", "format": "json", "replace": False, "keepTime": True}
    panel.with_transformation(DataTransformerConfig(id_val="extractFields", options=extract))
    only = {"include": {"names": list(titles)}}
    panel.with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=only))
    return panel.with_transformation(arrange_columns(titles)).span(WHOLE).height(12)


def unit_property(unit: str) -> list[DynamicConfigValue]:
    """Return the properties of a column of this unit."""
    return [DynamicConfigValue(id_val="unit", value=unit)]


def trace_link() -> list[DynamicConfigValue]:
    """Return the properties of a column that leads to the trace, in a data source of traces."""
    internal = {
        "datasourceUid": "${traces}",
        "datasourceName": "${traces}",
        "query": {"query": "${__value.raw}"},
    }
    link = {"title": "Open the trace", "url": "", "internal": internal}
    return [DynamicConfigValue(id_val="links", value=[link])]
