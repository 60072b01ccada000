"""The measurement of one agent in a guest.

python -m tests.bench.scale.guest_agent FOLDER
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from tests.bench.scale.kill_cost import measure_kills, measure_start, run_beside_backend
from tests.testlib.agent import Agent
from tests.vmtest.results_file import write_results

_KILLS: Final = 10
"""An emulated CPU needs a second for each."""


def main(folder: Path) -> None:
    """Measure; a failure is part of the results, as text."""
    results: dict[str, Any] = {}
    try:
        # Each report would wait for the emulated console.
        subprocess.run(("dmesg", "-n", "1"), check=True)
        subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
        subprocess.run(("mount", "-t", "bpf", "bpf", "/sys/fs/bpf"), check=False)
        # The programs of a guest are protected, and so would be the victims.
        Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
        with run_beside_backend() as (agent, backend):
            start_s, _ = measure_start(agent)
            cost = measure_kills(agent, backend, count=_KILLS)
            _, rss_mb = measure_start(agent)
            results = {
                "possible": _count_possible_cpus(),
                "cpu_ms": cost.cpu_ms,
                "start_s": start_s,
                "rss_mb": rss_mb,
                "maps_mb": _read_map_bytes(agent) / 1e6,
            }
    except Exception:  # noqa: BLE001  the caller prints it
        results = {"failed": traceback.format_exc()}
    write_results(folder, results)


def _count_possible_cpus() -> int:
    ranges = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").split(",")
    return sum(int(each.split("-")[-1]) - int(each.split("-")[0]) + 1 for each in ranges)


def _read_map_bytes(agent: Agent) -> int:
    """Return the kernel's memory for the maps of an agent, each of which counts once."""
    sizes: dict[str, int] = {}
    for name in os.listdir(f"/proc/{agent.process.pid}/fdinfo"):  # noqa: PTH208  names are enough
        text = Path(f"/proc/{agent.process.pid}/fdinfo/{name}").read_text(encoding="ascii")
        fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        if "map_id" in fields and "memlock" in fields:
            sizes[fields["map_id"]] = int(fields["memlock"])
    return sum(sizes.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
