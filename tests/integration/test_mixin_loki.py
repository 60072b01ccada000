"""mixin's LogQL: by its published grammar, and on entries as Loki stores them.

Loki's licence keeps it out of these tests. The entries come through collector-config/loki.yaml
and a receiver with the documented mapping; the evaluation is the tests' own.
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from tests.testlib.logql.evaluation import evaluate_rule, find_entries
from tests.testlib.logql.grammar import find_errors, install_grammar
from tests.testlib.mixin import load_panel_queries, load_rules
from tests.testlib.repository import REPOSITORY
from tests.testlib.require import require_programs
from tests.testlib.samples.rule_events import EVENT_CASES
from tests.testlib.servers.collector import run_collector
from tests.testlib.servers.loki_entry import read_documented_labels
from tests.testlib.servers.loki_receiver import LokiReceiver
from tests.testlib.servers.web import http_post

CONFIG = REPOSITORY / "collector-config/loki.yaml"
PANELS = [query for query in load_panel_queries("oom-kills.json") if query.kind == "loki"]
RULES = load_rules("loki.yaml")


@pytest.mark.slow
def test_each_query_is_logql() -> None:
    """And the grammar finds what is none."""
    require_programs("node", "npm")
    grammar = install_grammar()
    queries = [rule["expr"] for rule in RULES] + [query.expr for query in PANELS]
    assert find_errors(grammar, queries) == [[] for _ in queries]
    wrong = ['{a="b"} | | c', 'sum by (a (count_over_time({a="b"}[5m]))', '{a="b"} | a=']
    assert all(find_errors(grammar, wrong))


def test_alerts_fire_on_their_events_alone(collector_binary: Path) -> None:
    """Each host has the alerts of its events, with the labels that route them."""
    hosts = {f"node-{secrets.token_hex(4)}": case for case in EVENT_CASES}
    oldest_first = sorted(hosts, key=lambda host: -max(hosts[host].minutes))
    with (
        LokiReceiver(index_labels=read_documented_labels()) as loki,
        run_collector(collector_binary, CONFIG, env={"LOKI_URL": loki.url}) as server,
    ):
        for host in oldest_first:
            for request in hosts[host].encode(host):
                assert http_post(f"{server.http}/v1/logs", request).status == 200
        now_ns = time.time_ns()
        found = [
            (rule["alert"], labels)
            for rule in RULES
            for labels in evaluate_rule(loki, rule["expr"], now_ns)
        ]
        panels = {query.panel: _find_of_panel(loki, query.expr) for query in PANELS}
    wanted = {(alert, host) for host, case in hosts.items() for alert in case.alerts}
    assert {(alert, labels["host_name"]) for alert, labels in found} == wanted
    for alert, labels in found:
        assert (labels["k8s_cluster_name"], labels["k8s_node_name"]) == ("eu-1", "node-1")
        if alert in {"OomKill", "OomKillRepeating"}:
            assert (labels["service_name"], labels["service_namespace"]) == ("shop", "store")
            assert labels["k8s_namespace_name"] == "prod"
            assert labels["k8s_container_name"] == "web"
    assert all(panels.values())


def test_the_table_has_its_columns(collector_binary: Path) -> None:
    """All labels that it keeps exist in the entry of a kill, but a pod's name."""
    (table,) = (query.expr for query in PANELS if query.panel == "Last kills")
    with (
        LokiReceiver(index_labels=read_documented_labels()) as loki,
        run_collector(collector_binary, CONFIG, env={"LOKI_URL": loki.url}) as server,
    ):
        (request,) = EVENT_CASES[0].encode("node-1")
        assert http_post(f"{server.http}/v1/logs", request).status == 200
        (entry,) = find_entries(loki, table)
    columns = set(table.partition("| keep ")[2].split(", "))
    assert columns - entry.fields.keys() == {"show", "k8s_pod_name"}
    assert "otel-oom show {{.log_record_uid}}" in table
    assert entry.fields["log_record_uid"]


def _find_of_panel(loki: LokiReceiver, expr: str) -> bool:
    query = expr.removeprefix("sum(count_over_time(").removesuffix(" [5m]))")
    return bool(find_entries(loki, query))
