"""Real systemd units: systemd as the first process of a PID namespace, with this host's cgroups.

It is the init of nothing but its own units. Their cgroups are where they are on a host that
systemd itself has started: ``/system.slice/NAME.service`` below the root of the memory hierarchy.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testlib.kernel.cgroups import CGROUPS, MEMORY_V1, remove_cgroup
from tests.testlib.process import STOP_TIMEOUT_S, ServerProcess, run_server
from tests.testlib.require import require, require_programs
from tests.testlib.wait import wait_until

TRANSIENT = Path("/run/systemd/transient")
"""Where systemd writes transient units; here it is the host's own folder."""

_SYSTEMD = Path("/lib/systemd/systemd")
_OWN = CGROUPS / "systemd"
"""systemd's own hierarchy. Its root there is a cgroup of the test, and ``/`` in the memory one."""
_MADE = ("init.scope", "system.slice")
_LIMIT_S = 60

_START = """\
set -e
echo $$ > "$1/cgroup.procs"
echo $$ > "$2/cgroup.procs"
exec unshare --mount --pid --ipc --uts --cgroup --fork --kill-child sh -ec '
    mount --make-rprivate /
    umount --recursive /sys/fs/cgroup
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/memory
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory
    mount -t proc proc /proc
    # Files of its own, except those that the agent reads too.
    mount --bind "$0" "$0"
    mkdir "$0/run"
    mount -t tmpfs -o mode=755 tmpfs "$0/run"
    mkdir -p "$0/run/systemd/transient" "$0/run/systemd/system"
    mount --bind /run/systemd/transient "$0/run/systemd/transient"
    mount --rbind "$0/run" /run
    printf "[Unit]\\nDefaultDependencies=no\\n" > /run/systemd/system/units.target
    mount -t tmpfs -o mode=755 tmpfs /var/lib
    mount -t bpf -o mode=700 bpf /sys/fs/bpf
    # It must not change a setting or a file of the host.
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -o remount,bind,ro /
    exec env container=otel-oom-test /lib/systemd/systemd --unit=units.target --show-status=no
' "$3"
"""
"""$1 and $2: its root in its own and in the memory hierarchy; $3: its working folder."""


@dataclass(frozen=True)
class Systemd:
    """A running systemd; names of units are without ``.service``."""

    process: ServerProcess

    def systemctl(self, *words: str, check: bool = True) -> str:
        """Run systemctl; return what it prints."""
        return self._run_inside("systemctl", *words, check=check)

    def run(self, name: str, program: str, *properties: str) -> None:
        """Start a unit that runs a shell ``program``, with properties such as ``MemoryMax=24M``."""
        options = [f"--property={text}" for text in ("DefaultDependencies=no", *properties)]
        self._run_inside("systemd-run", f"--unit={name}", *options, "/bin/sh", "-c", program)

    def install(self, name: str, text: str) -> None:
        """Install ``text`` as the file ``name`` of a unit or a drop-in, below systemd's folder."""
        path = Path("/run/systemd/system", name)
        self._run_inside(
            "sh", "-c", 'mkdir -p "$0" && printf %s "$1" > "$2"', path.parent, text, path
        )
        self.systemctl("daemon-reload")

    def show(self, name: str) -> dict[str, str]:
        """Return the properties of a service by ``systemctl show``."""
        lines = self.systemctl("show", f"{name}.service").splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}

    def wait(self, name: str) -> int:
        """Wait until a service ends; return its exit code, or the signal that killed it."""
        ended = wait_until(lambda: self._show_ended(name), f"the end of {name}", limit=_LIMIT_S)
        return int(ended["ExecMainStatus"])

    def _show_ended(self, name: str) -> dict[str, str]:
        properties = self.show(name)
        return properties if properties["ActiveState"] in {"failed", "inactive"} else {}

    def _run_inside(self, *command: str | Path, check: bool = True) -> str:
        pid = _read_init_pid(self.process)
        done = subprocess.run(
            ["nsenter", f"--target={pid}", "--mount", "--pid", "--", *command],
            check=False,
            capture_output=True,
            timeout=_LIMIT_S,
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()


def _require_systemd() -> None:
    require(not Path("/run/systemd/system").exists(), "systemd already manages this host's cgroups")
    require_programs(_SYSTEMD, "systemd-run")
    for folder in (MEMORY_V1, _OWN):
        require((folder / "tasks").exists(), f"no hierarchy of cgroup v1 at {folder}")


@contextmanager
def run_systemd() -> Iterator[Systemd]:
    """Yield systemd without any unit; remove its units, cgroups and files at the end."""
    _require_systemd()
    folder = Path(tempfile.mkdtemp(prefix="systemd-"))
    own = _OWN / f"otel-oom-{folder.name}"
    cgroups = [top / name for top in CGROUPS.iterdir() for name in _MADE]
    cgroups = [cgroup for cgroup in cgroups if not cgroup.exists()]
    keep = TRANSIENT.exists()
    TRANSIENT.mkdir(parents=True, exist_ok=True)
    own.mkdir()
    command = ("sh", "-c", _START, "sh", own, MEMORY_V1, folder)
    try:
        with run_server("systemd", command, folder=folder, ready=_is_ready) as process:
            try:
                yield Systemd(process)
            finally:
                # unshare(1) does not hand on a SIGTERM, and ends with its child.
                os.kill(int(_read_init_pid(process)), signal.SIGKILL)
                process.child.wait(STOP_TIMEOUT_S)
    finally:
        wait_until(lambda: remove_cgroup(own), "the end of systemd's units")
        for cgroup in cgroups:
            remove_cgroup(cgroup)
        if not keep:
            shutil.rmtree(TRANSIENT, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _read_init_pid(process: ServerProcess) -> str:
    """Return the pid of the namespace's first process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return children.read_text(encoding="ascii").strip()


def _is_ready(process: ServerProcess) -> bool:
    if not _read_init_pid(process):
        return False
    state = Systemd(process).systemctl("is-system-running", check=False)
    return state.strip() in {"running", "degraded"}
