"""Have systemd-oomd, earlyoom and oomd kill for real, and write down what was told of it.

    python -m tests.vmtest.userspace_daemons FOLDER

Runs in a guest whose first process is systemd. FOLDER has the packages' files below ``packages``,
and gets the results. Nothing is judged here.
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
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins
from msgspec.structs import replace

from otel_oom.capture.userspace.source import JournalSource
from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.clock import boot_id
from otel_oom.model.events import CapturedEvent, UserspaceKill
from otel_oom.snapshot import read_usage, take_snapshot
from otel_oom.store import Store

PACKAGES: Final = "packages"
_UNITS: Final = Path("/run/systemd/system")
_STATE: Final = Path("/run/otel-oom")
_LIMIT_S: Final = 90.0
_LOOK_S: Final = 0.1
_HELD: Final = 400

_HOLDER: Final = """
import sys, time
held = bytearray(int(sys.argv[1]) << 20)
for at in range(0, len(held), 4096):
    held[at] = 1
open(sys.argv[2], "w").close()
while True:
    if sys.argv[3] == "touch":
        for at in range(0, len(held), 4096):
            held[at] += held[at] < 255
    else:
        time.sleep(1)
"""
"""Takes memory, says so, and touches it again and again or not."""

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
    """Let each kill once; what went wrong is told as text, with the journal."""
    results: dict[str, Any] = {"made": []}
    try:
        _play(folder / PACKAGES, results)
    except Exception:  # noqa: BLE001  whatever it was, it is told outside
        results["failed"] = traceback.format_exc()
    results["journal"] = _run("journalctl", "--no-pager", "-o", "short-unix").stdout
    unfinished = folder / "results.new"
    unfinished.write_text(json.dumps(results), encoding="utf-8")
    unfinished.rename(folder / "results.json")


def _play(packages: Path, results: dict[str, Any]) -> None:
    _do("mkswap", "/dev/ram0")
    _do("swapon", "/dev/ram0")
    store = Store(_STATE)
    # They are there before the agent is, which looks for them now and then.
    for name in ("systemd-oomd", "earlyoom", "oomd"):
        (_UNITS / f"{name}.service").touch()
    # The agent runs, then it does not, and then it is started again.
    kills = [lambda: _systemd_oomd(packages), lambda: _earlyoom(packages)]
    with store:
        results["running"] = _told(store, kills, results["made"])
    results["made"].append(_oomd(packages))
    with store:
        results["late"] = _told(store, [], results["made"], wanted=1)
        results["account"] = to_builtins(store.boot_tally(boot_id()))
        rows = store.pending_events(64, boot_id(), 1 << 62)
        results["stored"] = [to_builtins(row.event) for row in rows]


def _told(
    store: Store,
    kills: Sequence[Callable[[], dict[str, Any]]],
    made: list[dict[str, Any]],
    wanted: int = 0,
) -> list[dict[str, Any]]:
    """What is told while ``kills`` are made, or until so many are told, and what is seen then."""
    told: list[dict[str, Any]] = []
    files = CgroupMount.find()
    over = threading.Event()

    def take(event: CapturedEvent) -> None:
        assert isinstance(event, UserspaceKill)
        witness = take_snapshot(event, files)
        event = replace(event, memcg_usage=read_usage(event, files))
        new = store.insert(event, witness)
        told.append({"event": to_builtins(event), "witness": to_builtins(witness), "new": new})

    def follow(source: JournalSource) -> None:
        while not over.is_set():
            select.select([source], [], [], _LOOK_S)
            source.drain(take)

    with JournalSource(_STATE, history=True) as source, ThreadPoolExecutor(1) as pool:
        following = pool.submit(follow, source)
        try:
            for number, kill in enumerate(kills, 1):
                made.append(kill())
                _wait(partial(_are, told, number))
            _wait(partial(_are, told, wanted))
        finally:
            over.set()
            following.result()
    return told


def _are(told: Sequence[object], wanted: int) -> bool:
    return len(told) >= wanted


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
    _unit("systemd-oomd.service", _SYSTEMD_OOMD, packages)
    pid, filled = _hold("victim", 48, "touch", "--slice=pressed.slice", "-p", "MemoryHigh=24M")
    _wait(lambda: not Path("/proc", str(pid)).exists())
    _do("systemctl", "stop", "systemd-oomd.service")
    return {
        "killer": "systemd-oomd",
        "pid": pid,
        "memcg": "/pressed.slice/victim.service",
        "filled": filled,
        "result": _result("victim"),
    }


def _earlyoom(packages: Path) -> dict[str, Any]:
    before = _available()
    pid, filled = _hold("greedy", _HELD, "sleep", "-p", "OOMScoreAdjust=500")
    percent = (before + _available()) // 2
    _unit("earlyoom.service", _EARLYOOM, packages, percent=str(percent))
    _wait(lambda: not Path("/proc", str(pid)).exists())
    _do("systemctl", "stop", "earlyoom.service")
    return {
        "killer": "earlyoom",
        "pid": pid,
        "memcg": "/system.slice/greedy.service",
        "filled": filled,
        "result": _result("greedy"),
        "percent": percent,
    }


def _oomd(packages: Path) -> dict[str, Any]:
    Path("/run/oomd").mkdir(exist_ok=True)
    Path("/run/oomd.json").write_text(json.dumps(_RULES), encoding="ascii")
    pid, filled = _hold("big", 32, "sleep", "--slice=large.slice")
    _unit("oomd.service", _OOMD, packages)
    _wait(lambda: not Path("/proc", str(pid)).exists())
    # It looks once more, a second later, before it tells.
    said = ("journalctl", "--no-pager", "_SYSTEMD_UNIT=oomd.service")
    _wait(lambda: " ruleset:[" in _run(*said).stdout)
    _do("systemctl", "stop", "oomd.service")
    return {
        "killer": "oomd",
        "pid": pid,
        "memcg": "/large.slice/big.service",
        "filled": filled,
        "result": _result("big"),
    }


def _hold(name: str, mib: int, how: str, *properties: str) -> tuple[int, bool]:
    """A unit of that name with one process, which holds memory; its pid, and whether it said so."""
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
        _wait(filled.exists)
    return pid, filled.exists()


def _unit(name: str, text: str, packages: Path, **values: str) -> None:
    for key, value in {"packages": str(packages), **values}.items():
        text = text.replace(f"{{{key}}}", value)
    (_UNITS / name).write_text(text, encoding="ascii")
    _do("systemctl", "start", name)


def _result(name: str) -> str:
    return _run("systemctl", "show", "--property=Result", "--value", name).stdout.strip()


def _available() -> int:
    """The memory that is available, in percent."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return 100 * int(fields["MemAvailable"].split()[0]) // int(fields["MemTotal"].split()[0])


def _wait(condition: Callable[[], object]) -> None:
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
