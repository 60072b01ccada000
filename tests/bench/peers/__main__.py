"""Measure the peers in a guest, and print the table or write docs/comparison.md."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from msgspec import convert

from tests.bench.agent import describe_machine
from tests.bench.peers.measure import DOWN, GROUP, STORM
from tests.bench.peers.programs import PEERS
from tests.bench.peers.table import PeerResult, format_table
from tests.testlib.page_block import write_block
from tests.testlib.repository import REPOSITORY
from tests.vmtest.guest import run_guest
from tests.vmtest.kernels import fetch_kernel

_KERNEL: Final = "6.1"
"""It comes with the headers that bcc needs."""
_LIMIT_S: Final = 3600.0


def main() -> int:
    """Build what is missing, and measure all; return 1 if the guest failed."""
    parser = argparse.ArgumentParser(prog="bench-peers", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/comparison.md")
    arguments = parser.parse_args()
    for build in PEERS:
        build()
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        kernel = fetch_kernel(_KERNEL)
        results = run_guest(kernel, "tests.bench.peers.guest_main", Path(folder), _LIMIT_S).results
    if "failed" in results:
        print(results["failed"], file=sys.stderr)
        return 1
    for name, output in results["outputs"].items():
        print(f"{name}: {output}", file=sys.stderr)
    machine = describe_machine() | {"kernel": results["kernel"]}
    table = format_table(convert(results["peers"], list[PeerResult]), STORM, GROUP, DOWN)
    heading = "{date}, an emulated guest with kernel {kernel} on {cpu}:".format_map(machine)
    text = f"{heading}\n\n{table}"
    print(text)
    if arguments.write:
        write_block(REPOSITORY / "docs/comparison.md", "bench-peers", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
