"""mixin/rules/prometheus.yaml by the real promtool: each alert fires, is routed, and is silent."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from mixin.source.rules import ALERTS
from tests.testlib.repository import REPOSITORY
from tests.testlib.samples.rule_cases import CASES, Case, agent, kills, name, zero

RULES = REPOSITORY / "mixin/rules/prometheus.yaml"
SEVERITIES = {alert.name: alert.severity for alert in ALERTS}


def run_promtool(binary: Path, *arguments: str | Path) -> str:
    """Return what promtool prints; it must succeed."""
    done = subprocess.run(
        [binary, *arguments], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


def write_test(file: Path, series: Mapping[str, str], **expectation: object) -> Path:
    """Write a file of `promtool test rules`."""
    inputs = [{"series": key, "values": values} for key, values in series.items()]
    test = {"interval": "1m", "input_series": inputs, **expectation}
    content = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}
    file.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return file


def test_the_rules_are_valid(promtool_binary: Path) -> None:
    """Names of recordings and labels, duplicates, syntax."""
    run_promtool(promtool_binary, "check", "rules", "--lint=all", "--lint-fatal", RULES)


@pytest.fixture(scope="module")
def results(promtool_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Run all cases at once; return what promtool prints of each, by its id."""
    folder = tmp_path_factory.mktemp("cases")
    files = [
        write_test(folder / f"{case.id}.yaml", case.series, promql_expr_test=[_expect_case(case)])
        for case in CASES
    ]
    done = subprocess.run(
        [promtool_binary, "test", "rules", *files],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    parts = re.split(r"(?m)^Processing test file: ", done.stdout)[1:]
    texts = (part.partition("\n") for part in parts)
    return {Path(path.strip()).stem: text.strip() for path, _, text in texts}


def _expect_case(case: Case) -> dict[str, object]:
    wanted = [
        {"alertname": case.alert, "alertstate": "firing", "severity": SEVERITIES[case.alert]}
        | dict(labels)
        for labels in case.firing
    ]
    return {
        "expr": f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}',
        "eval_time": f"{case.minute}m",
        "exp_samples": [{"labels": name("ALERTS", labels), "value": 1} for labels in wanted],
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_alert_fires_on_its_case_alone(results: Mapping[str, str], case: Case) -> None:
    """The firing alerts of the name are those of the case, with all their labels."""
    assert results[case.id] == "SUCCESS"


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_not() -> None:
    """No alert without a test."""
    names = {alert.name for alert in ALERTS if alert.prometheus}
    assert {case.alert for case in CASES if case.firing} == names
    assert {case.alert for case in CASES if not case.firing} == names


def test_the_text_of_an_alert_names_the_victim(promtool_binary: Path, tmp_path: Path) -> None:
    """Service, namespace, cluster, host and container, and where to read on."""
    labels = next(case.firing[0] for case in CASES if case.alert == "OomKill")
    victim = "shop in namespace prod of cluster eu-1 on node-1"
    rule = next(alert for alert in ALERTS if alert.name == "OomKill")
    annotations = {
        "summary": f"OOM kill of {victim}",
        "description": f"1 OOM kills of {victim} in 10 minutes, container web. `otel-oom events` "
        "on the host, or the dashboard, names process, limit, cause and advice.",
        "runbook_url": rule.rule("", "https://otel-oom.example/mixin/runbook.md")["annotations"][
            "runbook_url"
        ],
    }
    expectation = {
        "eval_time": "35m",
        "alertname": "OomKill",
        "exp_alerts": [
            {"exp_labels": {"severity": "warning", **labels}, "exp_annotations": annotations}
        ],
    }
    series = {**agent(), **zero(), **kills("_x30 1x600")}
    file = write_test(tmp_path / "test.yaml", series, alert_rule_test=[expectation])
    run_promtool(promtool_binary, "test", "rules", file)
