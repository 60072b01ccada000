"""The files of ``mixin/``: generated, and only of names that the registry has."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from mixin.source import __main__ as generator
from mixin.source import names
from mixin.source.rules import ALERTS
from otel_oom.cli import build_parser
from tests.testlib.registry import Registry, load_registry
from tests.testlib.repository import REPOSITORY

MIXIN: Final = REPOSITORY / "mixin"
RULES: Final = sorted(path.name for path in (MIXIN / "rules").glob("*.yaml"))
DASHBOARDS: Final = sorted(path.name for path in (MIXIN / "dashboards").glob("*.json"))

OF_OTHERS: Final = frozenset(
    {
        *("job", "instance", "le", "nodename", "target_info", "node_uname_info"),
        *("node_vmstat_oom_kill", "node_memory_MemAvailable_bytes"),
        "node_pressure_memory_waiting_seconds_total",
        *("container", "endpoint", "namespace", "node", "pod", "service"),
    }
)
"""Metrics and labels of Prometheus, of its operator and of node_exporter."""
FROM_THE_USER: Final = "k8s.cluster.name"
"""An attribute that OTEL_RESOURCE_ATTRIBUTES sets, as the note of the registry says."""
OF_BACKENDS: Final = frozenset({"oom_event", "event_name", "trace_id", "_time", "_msg"})
"""Fields of a log record, and the label that collector-config/loki.yaml makes of its name."""
OF_QUERIES: Final = frozenset({"show", "count", "events"})
"""Names that a query gives itself."""
KEYWORDS: Final = frozenset(
    {
        *("and", "by", "clamp_min", "count", "count_over_time", "delete"),
        *("fields", "filter", "format", "group", "group_left", "histogram_quantile"),
        *("in", "increase", "keep", "label_format", "label_replace", "last_over_time"),
        *("max", "offset", "on", "or", "rate", "rename"),
        *("stats", "sum", "sum_over_time", "topk", "unless", "unwrap", "without"),
        "as",
    }
)
UNITS: Final = {"By": "_bytes", "s": "_seconds"}


def queries() -> Iterator[tuple[str, str]]:
    """Yield each query with the file that has it."""
    for name in RULES:
        for group in yaml.safe_load((MIXIN / "rules" / name).read_text("utf-8"))["groups"]:
            yield from ((name, rule["expr"]) for rule in group["rules"])
    for name in DASHBOARDS:
        board = json.loads((MIXIN / "dashboards" / name).read_text("utf-8"))
        for panel in board["panels"]:
            yield from ((name, target["expr"]) for target in panel.get("targets", ()))
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                yield name, re.sub(r"^label_values\((.*), (\w+)\)$", r"\1 or \2", variable["query"])


def registered(registry: Registry) -> set[str]:
    """Return all names that a query may have, as Prometheus, Loki and VictoriaLogs spell them."""
    attributes = {FROM_THE_USER, *registry.attributes}
    metrics = set()
    for key, group in registry.groups.items():
        attributes |= registry.uses(key).keys()
        if group["type"] == "metric":
            name = group["metric_name"].replace(".", "_") + UNITS.get(group["unit"], "")
            if group["instrument"] == "histogram":
                name += "_bucket"
            metrics.add(f"{name}_total" if group["instrument"] == "counter" else name)
    for name in registry.imported_metrics:
        ends = ("", "_total", "_bytes", "_seconds", "_seconds_total", "_seconds_bucket")
        metrics |= {name.replace(".", "_") + end for end in ends}
    labels = {re.sub(r"\W", "_", name) for name in attributes}
    return {*attributes, *labels, *metrics, *OF_OTHERS, *OF_BACKENDS, *OF_QUERIES, *KEYWORDS}


def recorded() -> set[str]:
    """Return the names of the recording rules."""
    content = yaml.safe_load((MIXIN / "rules/prometheus.yaml").read_text("utf-8"))
    rules = (rule for group in content["groups"] for rule in group["rules"])
    return {rule["record"] for rule in rules if "record" in rule}


def find_names(query: str) -> set[str]:
    """Return the words of a query outside of its texts, durations and variables."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"|\{\{.*?\}\}|\[[^\]]*\]|\$\w+', " ", query)
    bare = re.sub(r"\bin\([^)]*\)|\b_time:\w+", " ", bare)
    bare = re.sub(r"\b\d[\w.]*", " ", bare)
    return set(re.findall(r"[A-Za-z_](?:[\w:.]*\w)?", bare))


@pytest.mark.parametrize("file", [*RULES, *DASHBOARDS])
def test_every_name_is_in_the_registry(file: str) -> None:
    """Metrics, attributes, labels and fields; a renamed one would be a query without data."""
    known = registered(load_registry()) | recorded()
    unknown = {name for of, query in queries() if of == file for name in find_names(query)} - known
    assert not unknown


def test_a_name_that_the_registry_does_not_have_is_found() -> None:
    """Such as that of a later version, or a metric without its unit."""
    known = registered(load_registry())
    query = 'sum by (oom_growth_colour) (otel_oom_queue_age{otel_oom_signal="logs"} > 5)'
    assert find_names(query) - known == {"oom_growth_colour", "otel_oom_queue_age"}
    assert find_names("oom.growth.colour:=red | stats count() count") - known == {
        "oom.growth.colour",
        "red",
    }
    with pytest.raises(KeyError):
        names.label("oom.growth.colour")
    with pytest.raises(KeyError):
        names.metric("oom.growth")


@pytest.mark.parametrize("file", [*RULES, *DASHBOARDS])
def test_every_value_of_an_enumeration_is_in_the_registry(file: str) -> None:
    """`oom_outcome=~"killed|signalled"` and its like."""
    registry = load_registry()
    enums = {
        re.sub(r"\W", "_", name): set(attribute.members)
        for name, attribute in registry.attributes.items()
        if attribute.members
    }
    checked = 0
    for of, query in queries():
        if of != file:
            continue
        for name, values in re.findall(r'([a-z_.]+)(?:=~?|!=|:=)"([^"]*)"', query):
            members = enums.get(name.replace(".", "_"))
            if members and values:
                checked += 1
                assert set(values.split("|")) <= members, (name, values)
        for values in re.findall(r"oom\.outcome:in\(([^)]*)\)", query):
            assert set(values.split(", ")) <= enums["oom_outcome"]
    assert checked or "victorialogs" in file


@pytest.mark.parametrize("file", [*RULES, *DASHBOARDS])
def test_every_event_is_in_the_registry(file: str) -> None:
    """By the label of Loki, or the field of VictoriaLogs."""
    pattern = r'oom_event=~?"([^"]*)"|event_name:="([^"]*)"|event_name:in\(([^)]*)\)'
    texts = [
        "".join(groups)
        for of, query in queries()
        if of == file
        for groups in re.findall(pattern, query)
    ]
    events = {
        name.replace("\\", "") for text in texts for name in re.findall(r"oom(?:\\*\.\w+)+", text)
    }
    groups = load_registry().groups
    assert {f"event.{name}" for name in events} <= groups.keys()
    assert events or "loki" not in file


def test_files_are_up_to_date() -> None:
    """They are what the sources make."""
    for name, content in generator.build_files().items():
        assert (MIXIN / name).read_text(encoding="utf-8") == content, "run make mixin"


def test_check_names_a_stale_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the generator writes elsewhere, with another address of the runbook."""
    url = "https://wiki.example/oom"
    folder = ["--folder", str(tmp_path)]
    assert generator.main([*folder, "--runbook", url]) == 0
    assert f"runbook_url: {url}#oomkill\n" in (tmp_path / "rules/loki.yaml").read_text("utf-8")
    assert generator.main([*folder, "--check"]) == 1
    assert "mixin/rules/loki.yaml is stale" in capsys.readouterr().err
    assert generator.main([*folder, "--check", "--runbook", url]) == 0


def test_each_alert_has_its_section() -> None:
    """And no section is of an alert that is gone."""
    runbook = (MIXIN / "runbook.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"(?m)^## (O\w+)$", runbook))
    assert sections == {alert.name for alert in ALERTS}
    for alert in ALERTS:
        text = runbook.partition(f"## {alert.name}\n")[2].partition("\n## ")[0]
        for part in ("Meaning.", "First look.", "Usual causes.", "Change.", "Do not"):
            assert f"**{part}**" in text, (alert.name, part)


def test_each_command_of_the_runbook_exists() -> None:
    """With what it needs, by the parser of the program."""
    runbook = (MIXIN / "runbook.md").read_text(encoding="utf-8")
    commands = re.findall(r"(?:`|-- |sudo |/bin/|exec otel-oom )otel-oom ([a-z][^`\n…]*)", runbook)
    assert len(commands) > 10
    for command in commands:
        build_parser().parse_args(shlex.split(command))


def test_each_rule_leads_to_its_section() -> None:
    """By the anchor that a heading has on the page."""
    for name in RULES:
        for group in yaml.safe_load((MIXIN / "rules" / name).read_text("utf-8"))["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    anchor = rule["annotations"]["runbook_url"].partition("#")[2]
                    assert anchor == rule["alert"].lower()
                    assert rule["labels"]["severity"] in {"warning", "critical"}


def test_the_runbook_has_each_case_of_the_advice() -> None:
    """Every text with which a rule of `oom.advice` begins."""
    runbook = (MIXIN / "runbook.md").read_text(encoding="utf-8")
    for text in (
        *("alone used", "No process dominates", "protected it", "Shared memory and tmpfs use"),
        *("Socket buffers use", "Kernel objects use", "Unwritten file pages use"),
        *("Reserved huge pages use", "Unreclaimable kernel objects use", "is shared, and"),
        *("NUMA nodes", "in one piece", "The kernel is set to kill the allocating task"),
        *("after its usage grew", "which was reached within", "The host had"),
        *("of the host's", "The cgroup of the pod was full before", "The kill was requested"),
    ):
        assert text in runbook, text
        first = text.removesuffix(" use")
        sources = (REPOSITORY / "otel_oom/enrich/advice").glob("*.py")
        assert any(first in source.read_text("utf-8") for source in sources), text


@pytest.mark.parametrize("file", DASHBOARDS)
def test_a_dashboard_fits_the_schema(file: str) -> None:
    """Grafana's SDK reads it, and writes the same."""
    register_default_plugins()
    content = json.loads((MIXIN / "dashboards" / file).read_text(encoding="utf-8"))
    board = Dashboard.from_json(content)
    written = json.loads(JSONEncoder().encode(board))
    assert drop_foreign(written) == drop_foreign(content)


def drop_foreign(board: dict[str, Any]) -> dict[str, Any]:
    """Leave out queries that the SDK does not know, and defaults that it adds."""
    for panel in board["panels"]:
        if (panel.get("datasource") or {}).get("type") == "victoriametrics-logs-datasource":
            panel.pop("targets")
        panel.get("fieldConfig", {}).get("defaults", {}).pop("custom", None)
    return board


@pytest.mark.parametrize("file", DASHBOARDS)
def test_panels_are_placed_and_named(file: str) -> None:
    """None overlaps another one or has its title, and each variable in use is defined."""
    text = (MIXIN / "dashboards" / file).read_text(encoding="utf-8")
    board = json.loads(text)
    panels = board["panels"]
    titles = [panel["title"] for panel in panels]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for position in (panel["gridPos"] for panel in panels)
        for x in range(position["x"], position["x"] + position["w"])
        for y in range(position["y"], position["y"] + position["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    defined = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)\}?", text)) - {"interval"}
    assert used == defined
