"""The queries of ``mixin/``, with variables and times as a test needs them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from tests.testlib.repository import REPOSITORY

FOLDER: Final = REPOSITORY / "mixin"
_VARIABLES: Final = {
    "$cluster": ".*",
    "$namespace": ".*",
    "$host": ".*",
    "$__rate_interval": "10s",
    "$__range": "5m",
    "$__interval": "30s",
}
_THRESHOLD: Final = re.compile(r"(?<!\w)>=? -?\d+\b")
_SECONDS: Final = {"m": 1, "h": 20}
_DURATION: Final = re.compile(r"(?<![\w:])(\d+)([hm])\b")


@dataclass(frozen=True)
class PanelQuery:
    """A query of a panel; ``kind`` is its data source's, ``type`` that of VictoriaLogs."""

    panel: str
    kind: str
    expr: str
    type: str = ""


def load_rules(file: str) -> list[dict[str, Any]]:
    """Return the rules of a file of ``mixin/rules/``."""
    content = yaml.safe_load((FOLDER / "rules" / file).read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


def load_panel_queries(file: str) -> Iterator[PanelQuery]:
    """Yield the queries of a dashboard, with all values of its variables selected."""
    board = json.loads((FOLDER / "dashboards" / file).read_text(encoding="utf-8"))
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"]
            for name, value in _VARIABLES.items():
                expr = expr.replace(name, value)
            kind = panel["datasource"]["type"]
            yield PanelQuery(panel["title"], kind, expr, target.get("queryType", ""))


def load_variables(file: str) -> Iterator[tuple[str, str]]:
    """Yield the selector and the label of each variable that Prometheus has the values of."""
    board = json.loads((FOLDER / "dashboards" / file).read_text(encoding="utf-8"))
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"])
            assert match
            yield match[1].replace("$cluster", ".*"), match[2]


def loosen(expr: str) -> str:
    """Let thresholds be met by every value, so that the query has data without a fault."""
    return _THRESHOLD.sub("> -1e9", expr)


def compress_times(text: str) -> str:
    """Make seconds of minutes, and 20 of an hour, so that rules can be observed at work."""
    return _DURATION.sub(lambda match: f"{int(match[1]) * _SECONDS[match[2]]}s", text)
