"""`make bench`: measure the budgets and print them as a table, or as JSON with --json."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from tests.bench import drain, measure, replay, seeing


def main() -> int:
    """Measure everything; always 0, for a figure is read by people."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    figures = []
    machine = measure.machine()
    if not as_json:
        print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "host"))
        print(f"{'':46} {'measured':>10}  {'budget':>8}")
    parts = (
        measure.starts,
        measure.life,
        drain.drains,
        seeing.sees,
        replay.replays,
        measure.sizes,
    )
    for part in parts:
        for figure in part():
            figures.append(figure)
            if not as_json:
                budget = "" if figure.budget is None else f"{figure.budget:g}"
                value = "not told" if figure.value is None else f"{figure.value:.3f}"
                print(f"{figure.name:46} {value:>10}  {budget:>8}  {figure.unit}")
                sys.stdout.flush()
    if as_json:
        print(json.dumps({"machine": machine, "figures": [asdict(f) for f in figures]}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
