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
from tests.testlib.wait import wait_until

TRANSIENT = Path("/run/systemd/transient")
"""Where systemd writes units that it is told over its socket; here it is the host's own folder."""

_SYSTEMD = Path("/lib/systemd/systemd")
_OWN = CGROUPS / "systemd"
"""systemd's own hierarchy: there its root is a cgroup of the test's, in the memory one ``/``."""
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
    # Files of its own, but for those that the agent reads too.
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
    """A running systemd; a unit's name is without its ``.service``."""

    process: ServerProcess

    def systemctl(self, *words: str, check: bool = True) -> str:
        """Run systemctl; what it prints."""
        return self._within("systemctl", *words, check=check)

    def run(self, name: str, program: str, *properties: str) -> None:
        """Start a unit with a shell's ``program`` and properties such as ``MemoryMax=24M``."""
        options = [f"--property={one}" for one in ("DefaultDependencies=no", *properties)]
        self._within("systemd-run", f"--unit={name}", *options, "/bin/sh", "-c", program)

    def install(self, name: str, text: str) -> None:
        """Have ``text`` as the file of a unit, or of a drop-in: ``name`` is below the folder."""
        path = Path("/run/systemd/system", name)
        self._within("sh", "-c", 'mkdir -p "$0" && printf %s "$1" > "$2"', path.parent, text, path)
        self.systemctl("daemon-reload")

    def show(self, name: str) -> dict[str, str]:
        """What ``systemctl show`` says of a service."""
        lines = self.systemctl("show", f"{name}.service").splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}

    def ended(self, name: str) -> int:
        """Wait for the end of a service; its exit code, or the signal that it died of."""
        said = wait_until(lambda: self._ended(name), f"the end of {name}", limit=_LIMIT_S)
        return int(said["ExecMainStatus"])

    def _ended(self, name: str) -> dict[str, str]:
        said = self.show(name)
        return said if said["ActiveState"] in {"failed", "inactive"} else {}

    def _within(self, *command: str | Path, check: bool = True) -> str:
        first = _first(self.process)
        done = subprocess.run(
            ["nsenter", f"--target={first}", "--mount", "--pid", "--", *command],
            check=False,
            capture_output=True,
            timeout=_LIMIT_S,
        )
        assert not check or done.returncode == 0, done.stderr.decode(errors="replace")
        return done.stdout.decode()


def missing() -> str:
    """What this machine lacks to run units; nothing if it can."""
    if Path("/run/systemd/system").exists():
        return "a host whose cgroups are not those of a systemd already"
    if not _SYSTEMD.exists() or not shutil.which("systemd-run"):
        return "systemd"
    hierarchies = [folder for folder in (MEMORY_V1, _OWN) if not (folder / "tasks").exists()]
    return " and ".join(f"a hierarchy of cgroup v1 at {folder}" for folder in hierarchies)


@contextmanager
def run_systemd() -> Iterator[Systemd]:
    """Yield systemd without any unit; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="systemd-"))
    own = _OWN / f"otel-oom-{folder.name}"
    made = [top / name for top in CGROUPS.iterdir() for name in _MADE]
    made = [one for one in made if not one.exists()]
    keep = TRANSIENT.exists()
    TRANSIENT.mkdir(parents=True, exist_ok=True)
    own.mkdir()
    command = ("sh", "-c", _START, "sh", own, MEMORY_V1, folder)
    try:
        with run_server("systemd", command, folder=folder, ready=_answers) as process:
            try:
                yield Systemd(process)
            finally:
                # unshare(1) does not hand on a SIGTERM, and ends with its child.
                os.kill(int(_first(process)), signal.SIGKILL)
                process.child.wait(STOP_TIMEOUT_S)
    finally:
        wait_until(lambda: remove_cgroup(own), "the end of systemd's units")
        for one in made:
            remove_cgroup(one)
        if not keep:
            shutil.rmtree(TRANSIENT, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _first(process: ServerProcess) -> str:
    """The pid of the namespace's first process."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return children.read_text(encoding="ascii").strip()


def _answers(process: ServerProcess) -> bool:
    if not _first(process):
        return False
    said = Systemd(process).systemctl("is-system-running", check=False)
    return said.strip() in {"running", "degraded"}
