"""Real kills by systemd-oomd, earlyoom and oomd, and the events that are captured of them.

    python -m tests.vmtest.userspace_daemons FOLDER

Runs in a guest whose first process is systemd. FOLDER has the packages' files below ``packages``,
and gets the results, which the tests judge outside.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import replace

from otel_oom.capture.userspace.prekill import HOOK_DIR
from otel_oom.capture.userspace.source import JournalSource
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boot_id
from otel_oom.model.events import CapturedEvent, UserspaceKill, VictimExit
from otel_oom.snapshot import read_usage, take_snapshot
from otel_oom.store import Store
from tests.vmtest.results_file import write_results

PACKAGES: Final = "packages"
UNITS: Final = Path("/run/systemd/system")
_STATE: Final = Path("/run/recorded")
_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.1
_HOLD_MIB: Final = 400
_ENVIRONMENT: Final = {**os.environ, "LC_ALL": "C", "SYSTEMD_IGNORE_CHROOT": "1"}
"""With the last one, systemctl works in a root below that of the first process."""

_HOLDER: Final = """
import os, sys, time
with open(sys.argv[4], "w") as file:
    file.write(f"{os.getpid()}\\n")
held = bytearray(int(sys.argv[1]) << 20)
for index in range(0, len(held), 4096):
    held[index] = 1
open(sys.argv[2], "w").close()
while True:
    if sys.argv[3] == "touch":
        for index in range(0, len(held), 4096):
            held[index] += held[index] < 255
    else:
        time.sleep(1)
"""
"""Writes its pid, allocates memory, makes a file, and touches the memory again and again or not."""

_SYSTEMD_OOMD: Final = """
[Unit]
DefaultDependencies=no
[Service]
Type=notify
RuntimeDirectory=systemd/oom
OOMScoreAdjust=-1000
ExecStart={packages}/lib/systemd/systemd-oomd
"""
_EARLYOOM: Final = """
[Unit]
DefaultDependencies=no
[Service]
OOMScoreAdjust=-1000
ExecStart={packages}/usr/bin/earlyoom -m {percent},1 -s 100 -r 0
"""
_OOMD: Final = """
[Unit]
DefaultDependencies=no
[Service]
OOMScoreAdjust=-1000
ExecStart={packages}/usr/bin/oomd --interval 1 --config /run/oomd.json --runtime-dir /run/oomd
"""
_RULES: Final = {
    "rulesets": [
        {
            "name": "too large",
            "detectors": [
                [
                    "large",
                    {
                        "name": "memory_above",
                        "args": {"cgroup": "large.slice", "threshold": "16M", "duration": "0"},
                    },
                ]
            ],
            "actions": [
                {
                    "name": "kill_by_memory_size_or_growth",
                    "args": {"cgroup": "large.slice/*", "size_threshold": "0"},
                }
            ],
        }
    ]
}


def main(folder: Path) -> None:
    """Let each daemon kill once; a failure is part of the results, as text, with the journal."""
    results: dict[str, Any] = {"made": [], "exits": []}
    try:
        _play(folder / PACKAGES, results)
    except Exception:  # noqa: BLE001  the tests report it
        results["failed"] = traceback.format_exc()
    results["journal"] = run("journalctl", "--no-pager", "-o", "short-unix").stdout
    write_results(folder, results)


def _play(packages: Path, results: dict[str, Any]) -> None:
    do("mkswap", "/dev/ram0")
    do("swapon", "/dev/ram0")
    store = Store(_STATE)
    # The agent checks for these units now and then: they exist before it starts.
    for name in ("systemd-oomd", "earlyoom", "oomd"):
        (UNITS / f"{name}.service").touch()
    # The agent runs for two kills, is stopped for the third, and is started again.
    kills = [lambda: _systemd_oomd(packages), lambda: _earlyoom(packages)]
    with store:
        results["running"] = capture(store, kills, results["made"], results["exits"])
    results["made"].append(_oomd(packages))
    with store:
        results["recovered"] = capture(store, [], results["made"], results["exits"], wanted=1)
        results["tally"] = to_builtins(store.tally.read(boot_id()))
        rows = store.pending_events(64, boot_id(), 1 << 62)
        results["stored"] = [to_builtins(row.event) for row in rows]


def capture(  # noqa: PLR0913  the last are seldom given
    store: Store,
    kills: Sequence[Callable[[], dict[str, Any]]],
    made: list[dict[str, Any]],
    exits: list[dict[str, Any]],
    *,
    wanted: int = 0,
    hook_dir: Path = HOOK_DIR,
) -> list[dict[str, Any]]:
    """Make ``kills``; return the captured events, with snapshots, once ``wanted`` are there."""
    captured: list[dict[str, Any]] = []
    mount = CgroupMount.find()
    over = threading.Event()

    def record(event: CapturedEvent) -> None:
        if isinstance(event, VictimExit):
            exits.append(to_builtins(event))
            return
        assert isinstance(event, UserspaceKill)
        snapshot = take_snapshot(event, mount)
        event = replace(event, memcg_usage=read_usage(event, mount))
        new = store.insert(event, snapshot)
        captured.append(
            {"event": to_builtins(event), "snapshot": to_builtins(snapshot), "new": new}
        )

    def follow(source: JournalSource) -> None:
        while not over.is_set():
            select.select([source], [], [], _POLL_S)
            source.drain(record)

    opened = JournalSource(_STATE, history=True, want_signals=True, hook_dir=hook_dir)
    with opened as source, ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, source)
        try:
            for number, kill in enumerate(kills, 1):
                made.append(kill())
                wait_until(lambda number=number: len(captured) >= number)  # type: ignore[misc]
            wait_until(lambda: len(captured) >= wanted)
        finally:
            over.set()
            following.result()
    return captured


def _systemd_oomd(packages: Path) -> dict[str, Any]:
    (conf := Path("/run/systemd/oomd.conf.d")).mkdir(parents=True, exist_ok=True)
    (conf / "guest.conf").write_text(
        "[OOM]\nDefaultMemoryPressureDurationSec=1s\n", encoding="ascii"
    )
    (UNITS / "pressed.slice").write_text(
        "[Unit]\nDefaultDependencies=no\n[Slice]\nMemoryAccounting=yes\n"
        "ManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureLimit=1%\n",
        encoding="ascii",
    )
    start_daemon("systemd-oomd.service", _SYSTEMD_OOMD, packages=packages)
    pid, filled = start_holder(
        "victim", 48, "touch", "--slice=pressed.slice", "-p", "MemoryHigh=24M"
    )
    wait_until(lambda: not Path("/proc", str(pid)).exists())
    do("systemctl", "stop", "systemd-oomd.service")
    return {
        "killer": "systemd-oomd",
        "pid": pid,
        "memcg": "/pressed.slice/victim.service",
        "filled": filled,
        "result": read_result("victim"),
    }


def _earlyoom(packages: Path) -> dict[str, Any]:
    before = read_available_percent()
    pid, filled = start_holder("greedy", _HOLD_MIB, "sleep", "-p", "OOMScoreAdjust=500")
    percent = (before + read_available_percent()) // 2
    start_daemon("earlyoom.service", _EARLYOOM, packages=packages, percent=percent)
    wait_until(lambda: not Path("/proc", str(pid)).exists())
    do("systemctl", "stop", "earlyoom.service")
    return {
        "killer": "earlyoom",
        "pid": pid,
        "memcg": "/system.slice/greedy.service",
        "filled": filled,
        "result": read_result("greedy"),
        "percent": percent,
    }


def _oomd(packages: Path) -> dict[str, Any]:
    Path("/run/oomd").mkdir(exist_ok=True)
    Path("/run/oomd.json").write_text(json.dumps(_RULES), encoding="ascii")
    pid, filled = start_holder("big", 32, "sleep", "--slice=large.slice")
    start_daemon("oomd.service", _OOMD, packages=packages)
    wait_until(lambda: not Path("/proc", str(pid)).exists())
    # It checks once more, a second later, before it logs.
    journal = ("journalctl", "--no-pager", "_SYSTEMD_UNIT=oomd.service")
    wait_until(lambda: " ruleset:[" in run(*journal).stdout)
    do("systemctl", "stop", "oomd.service")
    return {
        "killer": "oomd",
        "pid": pid,
        "memcg": "/large.slice/big.service",
        "filled": filled,
        "result": read_result("big"),
    }


def start_holder(
    name: str, mib: int, how: str, *properties: str, python: str = sys.executable
) -> tuple[int, bool]:
    """Start a unit whose process holds memory; return its pid, and True if it has all of it."""
    (script := Path("/run/holder.py")).write_text(_HOLDER, encoding="ascii")
    filled, pid = Path(f"/run/{name}.filled"), Path(f"/run/{name}.pid")
    do(
        *("systemd-run", "--quiet", f"--unit={name}.service", "-p", "DefaultDependencies=no"),
        *properties,
        *(python, "-S", "-E", str(script), str(mib), str(filled), how, str(pid)),
    )
    # systemd shows no pid of a service that was killed before it was queried.
    wait_until(lambda: pid.exists() and pid.read_text(encoding="ascii").endswith("\n"))
    if how == "sleep":
        wait_until(filled.exists)
    return int(pid.read_text(encoding="ascii")), filled.exists()


def start_daemon(name: str, text: str, **values: object) -> None:
    """Start a unit with that text, in which the values stand for their names in braces."""
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", str(value))
    (UNITS / name).write_text(text, encoding="ascii")
    do("systemctl", "start", name)


def read_result(name: str) -> str:
    """Return the reason for which systemd ended a unit."""
    return run("systemctl", "show", "--property=Result", "--value", name).stdout.strip()


def read_available_percent() -> int:
    """Return the available memory in percent."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return 100 * int(fields["MemAvailable"].split()[0]) // int(fields["MemTotal"].split()[0])


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition, not for ever."""
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.1)


def do(*command: str) -> None:
    """Run a command that must succeed."""
    done = run(*command)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(command, capture_output=True, text=True, check=False, env=_ENVIRONMENT)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
