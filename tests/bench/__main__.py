"""`make bench`: measure the budgets, and print them or write docs/performance.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tests.bench import drain, measure, replay, seeing
from tests.bench.figure import Figure
from tests.testlib.page_block import write_block
from tests.testlib.repository import REPOSITORY


def main() -> int:
    """Measure everything; always 0, for a figure is read by people."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    arguments = parser.parse_args()
    as_json = arguments.json
    figures: list[Figure] = []
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
    if arguments.write:
        write_block(REPOSITORY / "docs/performance.md", "bench", _markdown(machine, figures))
    return 0


def _markdown(machine: Mapping[str, str], figures: Sequence[Figure]) -> str:
    """Return the figures that have a value as a table, below a line that names the machine."""
    rows = (
        f"| {figure.name} | {figure.value:.4g} {figure.unit} "
        f"| {'' if figure.budget is None else f'{figure.budget:g} {figure.unit}'} |"
        for figure in figures
        if figure.value is not None
    )
    what = "{date}, kernel {kernel}, {cpu}, CPython {python}:".format_map(machine)
    return "\n".join((what, "", "| | measured | budget |", "|---|---|---|", *rows))


if __name__ == "__main__":
    sys.exit(main())
