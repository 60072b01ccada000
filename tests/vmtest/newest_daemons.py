"""Real kills by Debian's newest systemd-oomd, earlyoom and nohang, and the captured events.

    python -m tests.vmtest.newest_daemons FOLDER

Runs in a guest whose first process is the systemd of that suite, with its D-Bus. The agent's part
runs with this machine's Python. At last all of it captures a kill that earlyoom has the kernel do.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import to_builtins

from otel_oom.agent.unit_kill_watch import UnitKillWatch
from otel_oom.capture.userspace.prekill import HOOK_DIR
from otel_oom.commands.unit import UNIT
from otel_oom.config.library import LibraryConfig
from otel_oom.library.capture_thread import CaptureThread
from otel_oom.library.options import CaptureOptions
from otel_oom.linux.clock import boot_id
from otel_oom.linux.containers.service import ContainerService
from otel_oom.linux.systemd.unit_kills import UnitKills, read_unit_kills
from otel_oom.model.events import OomKill
from otel_oom.store import Store
from tests.testlib.repository import REPOSITORY
from tests.vmtest.results_file import write_results
from tests.vmtest.userspace_daemons import (
    capture,
    do,
    read_available_percent,
    read_result,
    run,
    start_holder,
    wait_until,
)

STABLE: Final = "stable"
"""A link in the shared folder to the root of the stable suite."""
_STATE: Final = Path("/run/recorded")
_CONFIGURATION: Final = Path("/run/systemd/oomd.conf.d/guest.conf")
_QUERY_S: Final = 120.0
"""An emulated guest is slow."""
_PYTHON: Final = "/usr/bin/python3"
"""That of the suite, by which its units run."""
_BY_SYSRQ: Final = "requested"
_BY_HAND: Final = "by-hand"
_HOLD_MIB: Final = {"earlyoom": 400, "nohang": 1000, _BY_SYSRQ: 400, _BY_HAND: 400}
_SYSRQ_SCRIPT: Final = Path("/run/sysrq.sh")
_SYSRQ: Final = """#!/bin/sh
mkdir /run/requested && echo f > /proc/sysrq-trigger
"""
"""A program of earlyoom's unit that has the kernel kill, once: no release has --kernel-oom yet."""
_OOMD_VICTIMS: Final = ("swapper", "ruled", "busy", "victim", "stable-swapper", "stable-victim")
_RULES: Final = {"heavy": "kill-all", "busiest": "kill-by-pgscan"}

_EARLYOOM: Final = """
[Unit]
DefaultDependencies=no
[Service]
OOMScoreAdjust=-1000
EnvironmentFile=/run/earlyoom.environment
ExecStart=/usr/bin/earlyoom $ARGUMENTS
"""
_NOHANG: Final = """
[Unit]
DefaultDependencies=no
[Service]
OOMScoreAdjust=-1000
ExecStart=/usr/sbin/nohang --monitor --config /run/nohang.conf
"""
_REPOSITORY: Final = "/run/repository"
"""Another place of the repository, which may be below /tmp: the unit has its own."""
_HOOK_SERVICE: Final = """
[Unit]
DefaultDependencies=no
[Service]
RootDirectory=/host
WorkingDirectory={repository}
Environment=PYTHONPATH={path}
# The interpreter may be below root's home: the rights of the unit open that after its first exec.
ProtectHome=read-only
WatchdogSec=0
ExecStart=
ExecStart=/usr/bin/env {python} -S -B -m tests.vmtest.hook_service
"""
_STABLE_OOMD: Final = """
[Unit]
DefaultDependencies=no
Requires=systemd-oomd.socket
After=systemd-oomd.socket
[Service]
Type=notify
User=systemd-oom
AmbientCapabilities=CAP_KILL CAP_DAC_OVERRIDE CAP_SYS_CHROOT
OOMScoreAdjust=-900
ExecStart=/usr/sbin/chroot {root} /usr/lib/systemd/systemd-oomd
"""
_SLICE: Final = "[Unit]\nDefaultDependencies=no\n[Slice]\nMemoryAccounting=yes\n"


def main(folder: Path) -> None:
    """Let each daemon kill; a failure is part of the results, as text, with the journal."""
    # Also for systemctl as the agent runs it: this script is in a root below that of systemd.
    os.environ["SYSTEMD_IGNORE_CHROOT"] = "1"
    results: dict[str, Any] = {"made": [], "exits": []}
    try:
        _play((folder / STABLE).resolve(), results)
    except Exception:  # noqa: BLE001  the tests report it
        results["failed"] = traceback.format_exc()
        results["failed"] += run("chroot", "/proc/1/root", "oomctl").stdout
    names = [Path(made["memcg"]).name for made in results["made"]]
    units = read_unit_kills(*names, limit_s=_QUERY_S)
    results["units"] = None if units is None else to_builtins(units)
    results["version"] = run("/bin/sh", "-c", "chroot /proc/1/root systemctl --version").stdout
    results["journal"] = run("journalctl", "--no-pager", "-o", "short-unix").stdout
    write_results(folder, results)


def _play(stable: Path, results: dict[str, Any]) -> None:
    do("mkswap", "/dev/ram0")
    do("swapon", "/dev/ram0")
    _configure()
    _install_hook_service()
    do("systemctl", "start", "dbus.service", "systemd-oomd.service", UNIT.name)
    wait_until((HOOK_DIR / "otel-oom").exists)
    kills = [
        lambda: _kill_cgroup("swap_used", "swapped.slice", "swapper", 56, "sleep"),
        lambda: _kill_cgroup("rule heavy", "ruled.slice", "ruled", 48, "touch"),
        lambda: _kill_cgroup("rule busiest", "busy.slice", "busy", 48, "touch"),
        _kill_without_hook,
        lambda: _kill_by_stable_oomd(stable),
        lambda: _kill_cgroup("memory_pressure", "stable.slice", "stable-victim", 48, "touch"),
        lambda: _kill_process("earlyoom"),
        lambda: _kill_process("nohang"),
    ]
    with Store(_STATE) as store, Store(_STATE / "empty") as empty:
        watches = UnitKillWatch(store, _read_counts), UnitKillWatch(empty, _read_counts)
        for watch in watches:
            watch.compare()
        results["captured"] = capture(
            store, kills, results["made"], results["exits"], hook_dir=_STATE / "no-hook"
        )
        results["missed"] = [
            [missed.unit for _ in range(2) for missed in watch.compare() or ()] for watch in watches
        ]
    results["requested"] = _record_requested_kill()


def _read_counts() -> list[UnitKills] | None:
    return read_unit_kills(*(f"{name}.service" for name in _OOMD_VICTIMS), limit_s=_QUERY_S)


def _configure() -> None:
    """Configure systemd-oomd to kill in each slice for another reason."""
    files = {
        str(_CONFIGURATION): (
            "[OOM]\nDefaultMemoryPressureDurationSec=1s\nSwapUsedLimit=1%\n"
            "PrekillHookTimeoutSec=20s\n"
        ),
        "/run/systemd/system/swapped.slice": f"{_SLICE}ManagedOOMSwap=kill\n",
        "/run/systemd/system/ruled.slice": f"{_SLICE}OOMRules=heavy\n",
        "/run/systemd/system/busy.slice": f"{_SLICE}OOMRules=busiest\n",
    }
    # The pressure that one victim caused would kill the next one in its slice at its start.
    for name in ("pressed", "stable"):
        files[f"/run/systemd/system/{name}.slice"] = (
            f"{_SLICE}ManagedOOMMemoryPressure=kill\nManagedOOMMemoryPressureLimit=1%\n"
        )
    # Where the agent's part finds units, whose root is this machine's.
    packaged = Path("/proc/1/root/usr/lib/systemd/system/systemd-oomd.service")
    files["/run/systemd/system/systemd-oomd.service"] = packaged.read_text(encoding="utf-8")
    files["/run/systemd/system/earlyoom.service"] = _EARLYOOM
    files["/run/systemd/system/nohang.service"] = _NOHANG
    for name, action in _RULES.items():
        files[f"/run/systemd/oomd/rules.d/{name}.oomrule"] = (
            f"[Rule]\nMemoryPressureAbove=1%\nAction={action}\n"
        )
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")
    do("systemctl", "daemon-reload")


def _install_hook_service() -> None:
    """Install the shipped unit, with a program that only answers systemd-oomd's hook."""
    # In the root that the service shares with this script.
    do("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
    do("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    folder = Path("/run/systemd/system")
    (folder / UNIT.name).write_text(UNIT.read_text(encoding="utf-8"), encoding="utf-8")
    (drop_in := folder / f"{UNIT.name}.d" / "guest.conf").parent.mkdir()
    packages = Path(msgspec.__file__).resolve().parents[1]
    paths = [
        str(path).replace(f"{REPOSITORY}/", f"{_REPOSITORY}/")
        for path in (packages, sys.executable)
    ]
    text = _HOOK_SERVICE.format(repository=_REPOSITORY, path=paths[0], python=paths[1])
    drop_in.write_text(text, encoding="utf-8")


def _kill_cgroup(reason: str, slice_: str, name: str, mib: int, how: str) -> dict[str, Any]:
    pid, filled = start_holder(
        name,
        mib,
        "touch" if how == "touch" else "idle",
        f"--slice={slice_}",
        *("-p", "MemoryHigh=24M"),
        python=_PYTHON,
    )
    wait_until(lambda: not Path("/proc", str(pid)).exists())
    return {
        "killer": "systemd-oomd",
        "reason": reason,
        "pid": pid,
        "memcg": f"/{slice_}/{name}.service",
        "filled": filled,
        "result": read_result(name),
    }


def _kill_by_stable_oomd(root: Path) -> dict[str, Any]:
    _start_stable_oomd(root)
    return _kill_cgroup("swap_used", "swapped.slice", "stable-swapper", 56, "sleep")


def _kill_without_hook() -> dict[str, Any]:
    text = _CONFIGURATION.read_text(encoding="utf-8").replace("Sec=20s", "Sec=0")
    _CONFIGURATION.write_text(text, encoding="utf-8")
    do("systemctl", "restart", "systemd-oomd.service")
    return _kill_cgroup("memory_pressure", "pressed.slice", "victim", 48, "touch")


def _start_stable_oomd(root: Path) -> None:
    """Replace systemd-oomd by that of the stable suite, in its root."""
    for name in ("dev", "proc", "run", "sys"):
        do("mount", "--rbind", f"/{name}", str(root / name))
    text = _STABLE_OOMD.replace("{root}", f"/host{root}")
    Path("/run/systemd/system/systemd-oomd.service").write_text(text, encoding="utf-8")
    do("systemctl", "daemon-reload")
    # It gets the list of cgroups from a newer systemd at its start, and not later.
    do("systemctl", "start", "stable.slice")
    do("systemctl", "restart", "systemd-oomd.service")


def _kill_process(daemon: str) -> dict[str, Any]:
    before = read_available_percent()
    pid, filled = _start_victim(daemon)
    # nohang rejects a limit above half of the memory.
    percent = min(49, (before + read_available_percent()) // 2)
    _configure_nohang(percent)
    if daemon == "earlyoom":
        percent = _configure_earlyoom()
    do("systemctl", "stop", "systemd-oomd.service")
    do("systemctl", "start", f"{daemon}.service")
    wait_until(lambda: not Path("/proc", str(pid)).exists())
    do("systemctl", "stop", f"{daemon}.service")
    return {
        "killer": daemon,
        "reason": "memory_available",
        "pid": pid,
        "memcg": f"/system.slice/{daemon}-victim.service",
        "filled": filled,
        "result": read_result(f"{daemon}-victim"),
        "percent": percent,
    }


def _start_victim(name: str) -> tuple[int, bool]:
    options = ("-p", "OOMScoreAdjust=500")
    mib = _HOLD_MIB[name]
    return start_holder(f"{name}-victim", mib, "sleep", *options, python=_PYTHON)


def _configure_earlyoom(*options: str) -> int:
    """Let earlyoom kill as soon as it starts; return its limit in percent."""
    percent = min(99, _read_user_percent() + 5)
    arguments = " ".join((f"ARGUMENTS=-m {percent},1 -s 100 -r 0", *options))
    Path("/run/earlyoom.environment").write_text(f"{arguments}\n", encoding="ascii")
    return percent


def _record_requested_kill() -> dict[str, Any]:
    """Capture while earlyoom has the kernel choose, and then a person; return the kills."""
    pids: list[int] = []
    kills: list[OomKill] = []

    def is_stored() -> bool:
        rows = store.pending_events(64, boot_id(), 1 << 62)
        kills[:] = [row.event for row in rows if isinstance(row.event, OomKill)]
        return pids[-1] in {kill.victim.tgid for kill in kills}

    with Store(_STATE / "requested") as store:
        thread = CaptureThread(
            store, ContainerService(), CaptureOptions(), LibraryConfig(), lambda: None
        )
        thread.start()
        try:
            for name in (_BY_SYSRQ, _BY_HAND):
                pids.append(_start_victim(name)[0])
                if name == _BY_SYSRQ:
                    _SYSRQ_SCRIPT.write_text(_SYSRQ, encoding="ascii")
                    _SYSRQ_SCRIPT.chmod(0o700)
                    _configure_earlyoom("--dryrun", "-N", str(_SYSRQ_SCRIPT))
                    do("systemctl", "start", "earlyoom.service")
                else:
                    Path("/proc/sysrq-trigger").write_text("f", encoding="ascii")
                wait_until(is_stored)
                do("systemctl", "stop", "earlyoom.service")
        finally:
            thread.stop()
    return {"pids": pids, "kills": to_builtins(sorted(kills, key=lambda kill: kill.boottime_ns))}


def _read_user_percent() -> int:
    """Return the available memory in percent of what programs can have, as earlyoom 1.9 does."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    values = {name: int(rest.split()[0]) for name, _, rest in (one.partition(":") for one in lines)}
    return 100 * values["MemAvailable"] // (values["MemAvailable"] + values["AnonPages"])


def _configure_nohang(percent: int) -> None:
    """Copy the configuration of the package, with other limits."""
    text = Path("/proc/1/root/etc/nohang/nohang.conf").read_text(encoding="utf-8")
    limits = {
        "soft_threshold_min_mem": f"{percent} %",
        "soft_threshold_min_swap": "100 %",
        "warning_threshold_min_mem": "90 %",
    }
    lines = [
        f"{key} = {limits[key]}" if (key := line.partition("=")[0].strip()) in limits else line
        for line in text.splitlines()
    ]
    Path("/run/nohang.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
