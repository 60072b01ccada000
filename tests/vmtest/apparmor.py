"""The agent under the AppArmor profile of containers, and under none; then kills after growth.

    python -m tests.vmtest.apparmor FOLDER

Runs in a guest with AppArmor. FOLDER has the files of Debian's package below ``packages``, and gets
the results, which the tests judge outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from msgspec import to_builtins

from otel_oom.capture.source import PIN_DIR
from otel_oom.linux.clock import boot_id
from otel_oom.store import Store
from tests.testlib.kernel.kills import kill_one
from tests.testlib.kernel.oracle import KernelLog, message_text, read_oom_kill_count
from tests.testlib.speed import slowness
from tests.testlib.wait import wait_until
from tests.vmtest.apparmor_profile import PROFILE, read_profile
from tests.vmtest.cause_kills import play_causes
from tests.vmtest.constraint_scenarios import mount_memory_v1
from tests.vmtest.growth import play_growth
from tests.vmtest.results_file import write_results

PACKAGES: Final = "packages"
UNCONFINED: Final = "unconfined"

_APPARMOR: Final = Path("/sys/module/apparmor/parameters")
_BPFFS: Final = Path("/sys/fs/bpf")
_LIMIT_S: Final = 100.0


def main(folder: Path) -> None:
    """Run the agent under each profile; a failure is part of the results, as text."""
    results: dict[str, Any] = {"enabled": (_APPARMOR / "enabled").read_text(encoding="ascii")}
    # Only the guest's shell is protected.
    Path("/proc/self/oom_score_adj").write_text("0", encoding="ascii")
    try:
        # A rule with `deny` is silent otherwise.
        (_APPARMOR / "audit").write_text("noquiet", encoding="ascii")
        _load_profile(folder / PACKAGES)
        _do("mount", "-t", "bpf", "bpf", str(_BPFFS))
        for profile in (PROFILE, UNCONFINED):
            results[profile] = _run_confined(profile)
        results["causes"] = play_causes()
        # The kernel has both versions; nothing can be played on v2 after v1.
        results["growth"] = {"v2": play_growth(Path("/run/state/v2"))}
        with mount_memory_v1():
            results["growth"]["v1"] = play_growth(Path("/run/state/v1"))
    except Exception:  # noqa: BLE001  the tests report it
        results["failed"] = traceback.format_exc()
    write_results(folder, results)


def _load_profile(packages: Path) -> None:
    profile = Path("/run/profile")
    profile.write_text(read_profile(), encoding="utf-8")
    parser = str(packages / "sbin/apparmor_parser")
    settings = packages / "etc/apparmor.d"
    _do(parser, "--skip-cache", "--base", str(settings), "--replace", str(profile))


def _run_confined(profile: str) -> dict[str, Any]:
    """Return what the agent logs and stores of one kill, and what the kernel has refused it."""
    state, path = Path("/run/state", profile), Path("/run", f"{profile}.log")
    # aa-exec(1) does the same.
    change = f'echo exec {profile} > /proc/self/attr/exec && exec "$@"'
    # Without the packages that only sending needs.
    run = (sys.executable, "-S", "-B", "-m", "otel_oom", "run", "--state-dir", str(state))
    counted = read_oom_kill_count()
    with (
        KernelLog() as log,
        path.open("wb") as output,
        subprocess.Popen(
            ["/bin/sh", "-c", change, "sh", *run],
            stderr=output,
            env={**os.environ, "OTEL_SDK_DISABLED": "true"},
        ) as agent,
    ):
        _wait_for(path, "Watching for containers")
        label = Path(f"/proc/{agent.pid}/attr/current").read_text(encoding="ascii").strip()
        pid = kill_one()
        _wait_for(path, str(pid))
        pins = sorted(link.name for link in PIN_DIR.glob("*/links/*"))
        agent.terminate()
        code = agent.wait(_LIMIT_S * slowness())
        records = [message_text(record) for record in log.read_records()]
    with Store(state) as store:
        stored = [to_builtins(row.event) for row in store.pending_events(64, boot_id(), 1 << 62)]
    return {
        "label": label,
        "pid": pid,
        "counted": read_oom_kill_count() - counted,
        "code": code,
        "log": path.read_text(encoding="utf-8"),
        "pins": pins,
        "stored": stored,
        "refusals": [record for record in records if 'apparmor="DENIED"' in record],
    }


def _wait_for(log: Path, text: str) -> None:
    wait_until(lambda: text in log.read_text(encoding="utf-8"), text, limit=_LIMIT_S * slowness())


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
