"""``python -m mixin.source``: write the dashboards and rules, or compare them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from mixin.source import rules
from mixin.source.agent_dashboard import agent_dashboard
from mixin.source.alert import RUNBOOK
from mixin.source.kills_dashboard import WITH_LOKI, WITH_VICTORIALOGS, kills_dashboard

FOLDER: Final = Path(__file__).parents[1]


def build_files(runbook: str = RUNBOOK) -> dict[str, str]:
    """Return the content of each generated file, by its path below ``mixin/``."""
    return {
        "rules/prometheus.yaml": rules.prometheus_rules(runbook),
        "rules/loki.yaml": rules.loki_rules(runbook),
        "rules/victorialogs.yaml": rules.victorialogs_rules(runbook),
        "dashboards/oom-kills.json": _encode(kills_dashboard(WITH_LOKI)),
        "dashboards/oom-kills-victorialogs.json": _encode(kills_dashboard(WITH_VICTORIALOGS)),
        "dashboards/otel-oom-agent.json": _encode(agent_dashboard()),
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the files; with ``--check`` return 1 if one is stale."""
    parser = argparse.ArgumentParser(prog="python -m mixin.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="name stale files, and write none")
    parser.add_argument("--runbook", default=RUNBOOK, metavar="URL", help="address of runbook.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write")
    options = parser.parse_args(arguments)
    status = 0
    for name, content in build_files(options.runbook).items():
        path = options.folder / name
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != content:
            sys.stderr.write(f"mixin/{name} is stale: run make mixin\n")
            status = 1
    return status


def _encode(dashboard: Dashboard) -> str:
    built = dashboard.build()
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
    return JSONEncoder(indent=2, sort_keys=True).encode(built) + "\n"


if __name__ == "__main__":
    sys.exit(main())
