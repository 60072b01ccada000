"""Measure fleets of several sizes, and print the tables or write docs/scale.md."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.bench.agent import describe_machine
from tests.bench.fleet.measure import FleetResult, measure_fleet
from tests.bench.fleet.senders import run_senders
from tests.bench.fleet.table import (
    format_estimate,
    format_herds,
    format_results,
    format_wire,
)
from tests.bench.fleet.wire import measure_wire
from tests.testlib.page_block import write_block
from tests.testlib.repository import REPOSITORY

_SIZES: Final = (1000, 10_000)


def main() -> int:
    """Measure each size; always return 0, since people judge the measurements."""
    parser = argparse.ArgumentParser(prog="bench-fleet", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=_SIZES, help="sizes of fleets")
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    arguments = parser.parse_args()
    # So that its servers and processes end with it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plain, gzip = measure_wire(gzip=False), measure_wire(gzip=True)
    results: list[FleetResult] = []
    with run_senders() as senders:
        for hosts in sorted(arguments.hosts):
            # Not /tmp, which may be in memory instead of on a disk.
            with tempfile.TemporaryDirectory(prefix="fleet-", dir="/var/tmp") as folder:
                results.append(measure_fleet(hosts, senders, Path(folder)))
            print(format_results(results[-1:]), file=sys.stderr)
    heading = "{date}, kernel {kernel}, {cpu}:".format_map(describe_machine())
    parts = (
        *(heading, format_results(results), format_wire(plain, gzip), format_herds(results)),
        format_estimate(results[-1], plain, gzip),
    )
    text = "\n\n".join(parts)
    print(text)
    if arguments.write:
        write_block(REPOSITORY / "docs/scale.md", "bench-fleet", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
