"""The measurement, in a guest: its kernel has kprobes, and memory cgroups of version 2.

python -m tests.bench.peers.guest_main FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.peers.measure import measure_peers
from tests.bench.peers.programs import PEERS
from tests.vmtest.results_file import write_results


def main(folder: Path) -> None:
    """Measure all peers; a failure is part of the results, as text."""
    results: dict[str, Any] = {"kernel": os.uname().release}
    try:
        # Each report would wait for the emulated console.
        subprocess.run(("dmesg", "-n", "1"), check=True)
        subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
        subprocess.run(("mount", "-t", "bpf", "bpf", "/sys/fs/bpf"), check=False)
        peers = [build() for build in PEERS]
        outputs = Path(tempfile.mkdtemp())
        results["peers"] = [asdict(each) for each in measure_peers(peers, outputs)]
        results["outputs"] = {
            peer.name: (outputs / str(index) / "output").read_text(errors="replace")[:400]
            for index, peer in enumerate(peers)
        }
    except Exception:  # noqa: BLE001  the caller prints it
        results["failed"] = traceback.format_exc()
    write_results(folder, results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
