"""mixin/ on real kills: each query of rules and panels has data in the real backends.

Prometheus evaluates the rules with seconds for minutes. It gets the agent's metrics both by OTLP
and by a scrape, and the host's from a real node_exporter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.testlib.agent import Agent, run_agent
from tests.testlib.kernel.kills import kill_one
from tests.testlib.mixin import (
    FOLDER,
    PanelQuery,
    compress_times,
    load_panel_queries,
    load_rules,
    load_variables,
    loosen,
)
from tests.testlib.process import LOOPBACK, free_port, run_server
from tests.testlib.registry import load_registry
from tests.testlib.require import require
from tests.testlib.samples.rule_events import EVENT_CASES
from tests.testlib.servers.collector import Collector
from tests.testlib.servers.jaeger import Jaeger
from tests.testlib.servers.prometheus import Prometheus, run_prometheus
from tests.testlib.servers.recipes import BuildError
from tests.testlib.servers.victorialogs import VictoriaLogs
from tests.testlib.servers.web import http_get, http_post, is_ok
from tests.testlib.wait import wait_until
from tests.vmtest.packages import fetch_node_exporter

pytestmark = pytest.mark.usefixtures("real_kills")

VICTORIALOGS = "victoriametrics-logs-datasource"
OWN_METRICS = ("oom_", "otel_oom_", "otel_sdk_", "process_")
DASHBOARDS = ("oom-kills.json", "otel-oom-agent.json")
VICTIM = "tail"
"""The service of a process outside of containers and units is its program."""
WAIT_S = 90.0
RULES_WITH_DATA = [
    rule for rule in load_rules("prometheus.yaml") if rule.get("alert") != "OtelOomSilent"
]
"""That one has the data of an agent that is gone: the last test."""


@dataclass(frozen=True)
class Observed:
    """An agent whose three kills the backends have."""

    agent: Agent
    prometheus: Prometheus


@pytest.fixture(scope="module")
def node_exporter_binary() -> Path:
    """Return the path of node_exporter."""
    try:
        return fetch_node_exporter()
    except BuildError as error:
        require(condition=False, reason=str(error))
        raise  # not reached


@pytest.fixture(scope="module")
def observed(
    backends: Collector,
    prometheus_binary: Path,
    node_exporter_binary: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Observed]:
    """Run Prometheus with the rules, node_exporter and the agent, and kill three times."""
    folder = tmp_path_factory.mktemp("mixin")
    rules = folder / "rules.yaml"
    text = (FOLDER / "rules/prometheus.yaml").read_text(encoding="utf-8")
    rules.write_text(compress_times(text), encoding="utf-8")
    node, scrape_port = f"{LOOPBACK}:{free_port()}", free_port()
    targets = {"node": node, "agents": f"{LOOPBACK}:{scrape_port}"}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target]}]}
            for job, target in targets.items()
        ],
    }
    exporter = [str(node_exporter_binary), f"--web.listen-address={node}"]
    with (
        run_server(
            "node_exporter",
            exporter,
            folder=folder,
            ready=lambda _: is_ok(f"http://{node}/metrics"),
        ),
        run_prometheus(prometheus_binary, config, "--query.lookback-delta=10s") as prometheus,
    ):
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": backends.http,
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{prometheus.otlp}/v1/metrics",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_METRICS_EXPORTER": "otlp,prometheus",
            "OTEL_EXPORTER_PROMETHEUS_HOST": LOOPBACK,
            "OTEL_EXPORTER_PROMETHEUS_PORT": str(scrape_port),
            "OTEL_RESOURCE_ATTRIBUTES": "k8s.cluster.name=eu-1",
        }
        with run_agent(folder, environ) as agent:
            before = "last_over_time(host:oom_kills:max[1m] offset 12s)"
            wait_until(lambda: prometheus.query(before), "a history", limit=WAIT_S)
            for _ in range(3):
                kill_one()
            for case in (case for case in EVENT_CASES if case.alerts):
                for request in case.encode("node-of-samples"):
                    assert http_post(f"{backends.http}/v1/logs", request).status == 200
            yield Observed(agent, prometheus)


def find_alerts(prometheus: Prometheus, name: str) -> list[dict[str, str]]:
    """Return the labels of the alerts of this name that fire, or did so in the last minutes."""
    query = f'last_over_time(ALERTS{{alertname="{name}", alertstate="firing"}}[10m])'
    return [dict(sample.labels) for sample in prometheus.query(query)]


def test_an_alert_fires_on_real_kills(observed: Observed) -> None:
    """With the labels of the agent's resource, and of the event; this host may have other kills."""

    def find() -> list[dict[str, str]]:
        alerts = find_alerts(observed.prometheus, "OomKill")
        return [labels for labels in alerts if labels["service_name"] == VICTIM]

    alerts = wait_until(find, "OomKill", limit=WAIT_S) or []
    assert {labels["k8s_cluster_name"] for labels in alerts} == {"eu-1"}
    assert all(labels["host_name"] for labels in alerts)


@pytest.mark.parametrize("rule", RULES_WITH_DATA, ids=lambda rule: next(iter(rule.values())))
def test_each_rule_has_data(observed: Observed, rule: dict[str, str]) -> None:
    """Of an alert: with thresholds that every value meets."""
    expr = _count_kills(loosen(compress_times(rule["expr"])))
    expr = re.sub(r"offset (\d)\ds", r"offset \1s", expr)  # the agent has run for seconds
    wait_until(lambda: observed.prometheus.query(expr), f"data of {expr}", limit=WAIT_S)


def test_two_deliveries_of_metrics_count_once(observed: Observed) -> None:
    """By OTLP and by a scrape: the host is the same, and so is the number of its kills."""
    prometheus = observed.prometheus
    agents = prometheus.query('instance:otel_oom_info:max{job=~"otel-oom|agents"}')
    assert sorted(agent.labels["job"] for agent in agents) == ["agents", "otel-oom"]
    assert len({agent.labels["host_name"] for agent in agents}) == 1
    kernel = f'oom_outcome="killed", service_name="{VICTIM}"'

    queries = (
        f'sum(oom_kills_total{{{kernel}, job="agents"}})',
        f'sum(oom_kills_total{{{kernel}, job="otel-oom"}})',
        f"sum(host:oom_kills:max{{{kernel}}})",
    )

    def is_one() -> bool:
        counts = [sample.value for query in queries for sample in prometheus.query(query)]
        return len(counts) == len(queries) and len(set(counts)) == 1 and counts[0] >= 3

    wait_until(is_one, "one number", limit=WAIT_S)


def own_metrics() -> list[str]:
    """Return the names of the agent's metrics in all rules and panels."""
    queries = [query.expr for query in of_kind("prometheus", *DASHBOARDS)]
    queries += [rule["expr"] for rule in load_rules("prometheus.yaml")]
    words = {name for query in queries for name in re.findall(r"(?<![\w:])\w+(?![\w:])", query)}
    labels = {name.replace(".", "_") for name in load_registry().attributes}
    return sorted(name for name in words - labels if name.startswith(OWN_METRICS))


def test_both_ways_have_the_same_names(observed: Observed) -> None:
    """Those of Prometheus' OTLP receiver, and of the agent's own exporter."""
    names = own_metrics()
    assert len(names) > 15

    def find_missing() -> list[str]:
        return [
            name
            for name in names
            if {
                sample.labels["job"]
                for sample in observed.prometheus.query(f"group by (job) ({name})")
            }
            < {"otel-oom", "agents"}
        ]

    with suppress(TimeoutError):
        wait_until(lambda: not find_missing(), "all names", limit=WAIT_S)
    assert find_missing() == []


def of_kind(kind: str, *files: str) -> list[PanelQuery]:
    """Return the queries of a kind of data source in dashboards."""
    return [query for file in files for query in load_panel_queries(file) if query.kind == kind]


def _count_kills(expr: str) -> str:
    """Count any kill for missed ones and for leaks: nothing is missed or grows slowly here."""
    expr = expr.replace('oom_outcome="missed"', 'oom_outcome="killed"')
    return expr.replace('oom_growth_kind="leak"', 'oom_growth_kind!=""')


@pytest.mark.parametrize(
    "query",
    of_kind("prometheus", *DASHBOARDS),
    ids=lambda query: query.panel,
)
def test_each_panel_of_metrics_has_data(observed: Observed, query: PanelQuery) -> None:
    """Also those of node_exporter."""
    expr = _count_kills(loosen(query.expr))
    wait_until(lambda: observed.prometheus.query(expr), f"data of {expr}", limit=WAIT_S)


def test_each_variable_has_values(observed: Observed) -> None:
    """Clusters and hosts; a namespace needs Kubernetes."""
    for selector, label in (
        *load_variables("oom-kills.json"),
        *load_variables("otel-oom-agent.json"),
    ):
        samples = observed.prometheus.query(selector)
        assert samples
        assert label == "k8s_namespace_name" or all(label in sample.labels for sample in samples)


@pytest.mark.usefixtures("observed")
@pytest.mark.parametrize(
    "query", of_kind(VICTORIALOGS, "oom-kills-victorialogs.json"), ids=lambda query: query.panel
)
def test_each_panel_of_logs_has_data(victorialogs: VictoriaLogs, query: PanelQuery) -> None:
    """With all columns of the table, for the kills of this test: other tests store their own."""
    is_table = query.panel == "Last kills"

    def find_rows() -> list[dict[str, str]]:
        rows = query_logs(victorialogs, query)
        return [row for row in rows if not is_table or row.get("service_name") == VICTIM]

    rows = wait_until(find_rows, "rows", limit=WAIT_S) or []
    if is_table:
        names = {name for row in rows for name in row}
        wanted = {"_time", "host_name", "service_name", "oom_victim_memory_resident", "oom_advice"}
        assert wanted | {"oom_limit_memcg_limit", "oom_limit_scope", "trace_id"} <= names
        assert all(re.fullmatch(r"otel-oom show [0-9a-f-]{36}", row["show"]) for row in rows)
        assert not any("." in name for name in names)


@pytest.mark.usefixtures("observed")
def test_the_table_leads_to_the_trace(victorialogs: VictoriaLogs, jaeger: Jaeger) -> None:
    """The id in its column is one that Jaeger has."""
    (query,) = (
        query
        for query in of_kind(VICTORIALOGS, "oom-kills-victorialogs.json")
        if query.panel == "Last kills"
    )

    def of_real_kills() -> list[str]:
        rows = query_logs(victorialogs, query)
        return [row["trace_id"] for row in rows if row.get("service_name") == VICTIM]

    trace_ids = wait_until(of_real_kills, "the kills", limit=WAIT_S) or []
    wait_until(lambda: all(map(jaeger.trace, trace_ids)), "the traces", limit=WAIT_S)


def query_logs(victorialogs: VictoriaLogs, query: PanelQuery) -> list[dict[str, str]]:
    """Send a query as Grafana's data source does; return its rows."""
    params = {"query": query.expr, "limit": "100", "time": "now", "start": "1h"}
    if query.type == "stats":
        reply = http_get(f"{victorialogs.url}/select/logsql/stats_query", params)
        assert reply.status == 200, reply.body
        return [row for row in reply.json()["data"]["result"] if row["value"][1] != "0"]
    reply = http_get(f"{victorialogs.url}/select/logsql/query", params)
    assert reply.status == 200, reply.body
    return [json.loads(line) for line in reply.body.splitlines()]


def test_a_stopped_agent_is_reported(observed: Observed) -> None:
    """The last test of this file: it stops the agent."""
    observed.agent.stop()
    find = partial(find_alerts, observed.prometheus, "OtelOomSilent")
    wait_until(find, "OtelOomSilent", limit=WAIT_S)
