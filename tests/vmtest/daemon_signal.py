"""A kill by a process in the cgroup of a userspace OOM daemon, and the signal that is recorded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from otel_oom.capture.bpf.daemon_signals import DaemonSignalReader
from tests.testlib.kernel.cgroups import remove_cgroup
from tests.testlib.kernel.memcg import CGROUP_MOUNT

_SLICE: Final = "guest.slice"
_KILL: Final = 'echo $$ > "$0"; kill -9 $1'


def record_daemon_signal() -> dict[str, Any]:
    """Kill a process; return its pid, memory and page size in bytes, and the signals."""
    page = os.sysconf("SC_PAGE_SIZE")
    folder = CGROUP_MOUNT.mount / _SLICE / "earlyoom.service"
    folder.mkdir(parents=True)
    reader = DaemonSignalReader()
    try:
        holder = [sys.executable, "-S", "-E", "-c", "print(flush=True); input()"]
        pipe = subprocess.PIPE
        with subprocess.Popen(holder, stdin=pipe, stdout=pipe) as victim:
            assert victim.stdout
            victim.stdout.readline()
            pages = Path(f"/proc/{victim.pid}/statm").read_text(encoding="ascii").split()[1]
            resident = int(pages) * page
            procs = str(folder / "cgroup.procs")
            subprocess.run(["/bin/sh", "-c", _KILL, procs, str(victim.pid)], check=True)
        signals = [
            [sent.victim.tgid, sent.number, sent.memory.resident if sent.memory else None]
            for sent in reader.read_signals()
        ]
    finally:
        reader.close()
        remove_cgroup(folder.parent)
    return {"pid": victim.pid, "resident": resident, "signals": signals, "page": page}
