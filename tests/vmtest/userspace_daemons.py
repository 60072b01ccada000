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

from otel_oom.capture.userspace.source import JournalSource
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boot_id
from otel_oom.model.events import CapturedEvent, UserspaceKill, VictimExit
from otel_oom.snapshot import read_usage, take_snapshot
from otel_oom.store import Store
from tests.vmtest.results_file import write_results

PACKAGES: Final = "packages"
_UNITS: Final = Path("/run/systemd/system")
_STATE: Final = Path("/run/otel-oom")
_LIMIT_S: Final = 90.0
_POLL_S: Final = 0.1
_HOLD_MIB: Final = 400

_HOLDER: Final = """
import sys, time
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
"""Allocates memory, makes a file, and touches the memory again and again or not."""

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
    results["journal"] = _run("journalctl", "--no-pager", "-o", "short-unix").stdout
    write_results(folder, results)


def _play(packages: Path, results: dict[str, Any]) -> None:
    _do("mkswap", "/dev/ram0")
    _do("swapon", "/dev/ram0")
    store = Store(_STATE)
    # The agent checks for these units now and then: they exist before it starts.
    for name in ("systemd-oomd", "earlyoom", "oomd"):
        (_UNITS / f"{name}.service").touch()
    # The agent runs for two kills, is stopped for the third, and is started again.
    kills = [lambda: _systemd_oomd(packages), lambda: _earlyoom(packages)]
    with store:
        results["running"] = _capture(store, kills, results["made"], results["exits"])
    results["made"].append(_oomd(packages))
    with store:
        results["recovered"] = _capture(store, [], results["made"], results["exits"], wanted=1)
        results["tally"] = to_builtins(store.boot_tally(boot_id()))
        rows = store.pending_events(64, boot_id(), 1 << 62)
        results["stored"] = [to_builtins(row.event) for row in rows]


def _capture(
    store: Store,
    kills: Sequence[Callable[[], dict[str, Any]]],
    made: list[dict[str, Any]],
    exits: list[dict[str, Any]],
    wanted: int = 0,
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

    with JournalSource(_STATE, history=True) as source, ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, source)
        try:
            for number, kill in enumerate(kills, 1):
                made.append(kill())
                _wait_until(lambda number=number: len(captured) >= number)  # type: ignore[misc]
            _wait_until(lambda: len(captured) >= wanted)
        finally:
            over.set()
            following.result()
    return captured


def _systemd_oomd(packages: Path) -> dict[str, Any]:
    (conf := Path("/run/systemd/oomd.conf.d")).mkdir(parents=True, exist_ok=True)
    (conf / "guest.conf").write_text(
        "[OOM]\nDefaultMemoryPressureDurationSec=1s\n", encoding="ascii"
    )
    (_UNITS / "pressed.slice").write_text(
        "[Unit]\nDefaultDependencies=no\n[Slice]\nMemoryAccounting=yes\n"
        "ManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureLimit=1%\n",
        encoding="ascii",
    )
    _start_daemon("systemd-oomd.service", _SYSTEMD_OOMD, packages)
    pid, filled = _start_holder(
        "victim", 48, "touch", "--slice=pressed.slice", "-p", "MemoryHigh=24M"
    )
    _wait_until(lambda: not Path("/proc", str(pid)).exists())
    _do("systemctl", "stop", "systemd-oomd.service")
    return {
        "killer": "systemd-oomd",
        "pid": pid,
        "memcg": "/pressed.slice/victim.service",
        "filled": filled,
        "result": _read_result("victim"),
    }


def _earlyoom(packages: Path) -> dict[str, Any]:
    before = _read_available_percent()
    pid, filled = _start_holder("greedy", _HOLD_MIB, "sleep", "-p", "OOMScoreAdjust=500")
    percent = (before + _read_available_percent()) // 2
    _start_daemon("earlyoom.service", _EARLYOOM, packages, percent=str(percent))
    _wait_until(lambda: not Path("/proc", str(pid)).exists())
    _do("systemctl", "stop", "earlyoom.service")
    return {
        "killer": "earlyoom",
        "pid": pid,
        "memcg": "/system.slice/greedy.service",
        "filled": filled,
        "result": _read_result("greedy"),
        "percent": percent,
    }


def _oomd(packages: Path) -> dict[str, Any]:
    Path("/run/oomd").mkdir(exist_ok=True)
    Path("/run/oomd.json").write_text(json.dumps(_RULES), encoding="ascii")
    pid, filled = _start_holder("big", 32, "sleep", "--slice=large.slice")
    _start_daemon("oomd.service", _OOMD, packages)
    _wait_until(lambda: not Path("/proc", str(pid)).exists())
    # It checks once more, a second later, before it logs.
    journal = ("journalctl", "--no-pager", "_SYSTEMD_UNIT=oomd.service")
    _wait_until(lambda: " ruleset:[" in _run(*journal).stdout)
    _do("systemctl", "stop", "oomd.service")
    return {
        "killer": "oomd",
        "pid": pid,
        "memcg": "/large.slice/big.service",
        "filled": filled,
        "result": _read_result("big"),
    }


def _start_holder(name: str, mib: int, how: str, *properties: str) -> tuple[int, bool]:
    """Start a unit whose process holds memory; return its pid, and True if it has all of it."""
    (script := Path("/run/holder.py")).write_text(_HOLDER, encoding="ascii")
    filled = Path(f"/run/{name}.filled")
    _do(
        *("systemd-run", "--quiet", f"--unit={name}.service", "-p", "DefaultDependencies=no"),
        *properties,
        *(sys.executable, "-S", "-E", str(script), str(mib), str(filled), how),
    )
    shown = _run("systemctl", "show", "--property=MainPID", "--value", name).stdout.strip()
    pid = int(shown)
    if how == "sleep":
        _wait_until(filled.exists)
    return pid, filled.exists()


def _start_daemon(name: str, text: str, packages: Path, **values: str) -> None:
    for key, value in {"packages": str(packages), **values}.items():
        text = text.replace(f"{{{key}}}", value)
    (_UNITS / name).write_text(text, encoding="ascii")
    _do("systemctl", "start", name)


def _read_result(name: str) -> str:
    return _run("systemctl", "show", "--property=Result", "--value", name).stdout.strip()


def _read_available_percent() -> int:
    """Return the available memory in percent."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return 100 * int(fields["MemAvailable"].split()[0]) // int(fields["MemTotal"].split()[0])


def _wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.1)


def _do(*command: str) -> None:
    done = _run(*command)
    assert done.returncode == 0, f"{command}: {done.stderr}"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
