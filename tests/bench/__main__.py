"""`make bench`: measure the budgets, and print them or write docs/performance.md."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from tests.bench import agent, drain, latency, replay, snapshot, start, storm, usage
from tests.bench.measurement import Measurement
from tests.testlib.page_block import write_block
from tests.testlib.repository import REPOSITORY


def main() -> int:
    """Measure everything; always return 0, since people judge the measurements."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--storm", action="store_true", help="make 10,000 kills more")
    arguments = parser.parse_args()
    as_json = arguments.json
    measurements: list[Measurement] = []
    machine = agent.describe_machine()
    if not as_json:
        print(", ".join(f"{name} {value}" for name, value in machine.items() if name != "host"))
        print(f"{'':46} {'measured':>10}  {'budget':>8}")
    parts = (
        start.measure_start,
        agent.measure_agent,
        *((storm.measure_storm,) if arguments.storm else ()),
        latency.measure_latency,
        drain.measure_drain,
        snapshot.measure_snapshot,
        usage.measure_usage,
        replay.measure_replay,
        agent.measure_sizes,
    )
    for part in parts:
        for measurement in part():
            measurements.append(measurement)
            if not as_json:
                budget = "" if measurement.budget is None else f"{measurement.budget:g}"
                value = "unknown" if measurement.value is None else f"{measurement.value:.3f}"
                print(f"{measurement.name:46} {value:>10}  {budget:>8}  {measurement.unit}")
                sys.stdout.flush()
    if as_json:
        print(
            json.dumps(
                {"machine": machine, "measurements": [asdict(m) for m in measurements]}, indent=2
            )
        )
    if arguments.write:
        write_block(REPOSITORY / "docs/performance.md", "bench", _markdown(machine, measurements))
    return 0


def _markdown(machine: Mapping[str, str], measurements: Sequence[Measurement]) -> str:
    """Return the known measurements as a table, below a line about the machine."""
    rows = (
        f"| {measurement.name} | {measurement.value:.4g} {measurement.unit} "
        f"| {'' if measurement.budget is None else f'{measurement.budget:g} {measurement.unit}'} |"
        for measurement in measurements
        if measurement.value is not None
    )
    heading = "{date}, kernel {kernel}, {cpu}, CPython {python}:".format_map(machine)
    return "\n".join((heading, "", "| | measured | budget |", "|---|---|---|", *rows))


if __name__ == "__main__":
    sys.exit(main())
