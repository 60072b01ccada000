"""mixin/rules/victorialogs.yaml by a real vmalert, on events in a real VictoriaLogs."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Collection
from pathlib import Path

import yaml

from mixin.source.rules import ALERTS
from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.rule_events import EVENT_CASES
from tests.testlib.servers.victorialogs import VictoriaLogs
from tests.testlib.servers.vmalert import Vmalert, run_vmalert
from tests.testlib.servers.web import http_post
from tests.testlib.wait import wait_until

RULES = REPOSITORY / "mixin/rules"
OWNER_ALERTS = {"OomKill", "OomKillRepeating"}


def test_vmalert_accepts_the_files(vmalert_binary: Path) -> None:
    """That of Prometheus too."""
    files = [f"-rule={RULES / name}" for name in ("prometheus.yaml", "victorialogs.yaml")]
    done = subprocess.run(
        [vmalert_binary, "-dryRun", "-rule.validateTemplates", "-rule.validateExpressions", *files],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_alerts_fire_on_their_events_alone(
    vmalert_binary: Path, victorialogs: VictoriaLogs
) -> None:
    """Of each host exactly those of its events, with the labels that route them."""
    hosts = {f"node-{secrets.token_hex(4)}": case for case in EVENT_CASES}
    wanted = {(host, alert) for host, case in hosts.items() for alert in case.alerts}
    for host, case in hosts.items():
        for request in case.encode(host):
            url = f"{victorialogs.url}/insert/opentelemetry/v1/logs"
            assert http_post(url, request).status == 200
    with run_vmalert(vmalert_binary, RULES / "victorialogs.yaml", victorialogs.url) as vmalert:
        wait_until(lambda: firing(vmalert, hosts) >= wanted, "the alerts", limit=60)
        assert firing(vmalert, hosts) == wanted
        assert vmalert.errors() == []
        alerts = [labels for labels in vmalert.alerts() if labels["host_name"] in hosts]
        host = next(host for host, case in hosts.items() if case.what == "one kill")
        annotations = vmalert.annotations("OomKill", host_name=host)
    severities = {alert.name: alert.severity for alert in ALERTS}
    for labels in alerts:
        assert labels["severity"] == severities[labels["alertname"]]
        assert (labels["k8s_cluster_name"], labels["k8s_node_name"]) == ("eu-1", "node-1")
        if labels["alertname"] in OWNER_ALERTS:
            owner = [labels[name] for name in ("service_name", "service_namespace")]
            assert owner == ["shop", "store"]
            assert labels["k8s_namespace_name"] == "prod"
            assert labels["k8s_container_name"] == "web"
    assert annotations["summary"] == f"OOM kill of shop in namespace prod of cluster eu-1 on {host}"


def firing(vmalert: Vmalert, hosts: Collection[str]) -> set[tuple[str, str]]:
    """Return the hosts of the test with the names of their alerts."""
    pairs = ((labels["host_name"], labels["alertname"]) for labels in vmalert.alerts())
    return {pair for pair in pairs if pair[0] in hosts}


def test_each_alert_on_events_has_a_case() -> None:
    """In which it fires."""
    rules = yaml.safe_load((RULES / "victorialogs.yaml").read_text(encoding="utf-8"))
    names = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert names == {alert for case in EVENT_CASES for alert in case.alerts}
