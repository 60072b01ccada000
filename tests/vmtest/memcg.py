"""Memory cgroups and what is killed in them, with as few imports as there can be.

Imports take a guest ten times as long as the host.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from otel_oom.linux.cgroupfs import CgroupMount
from otel_oom.linux.temporary_cgroup import Cgroup, TemporaryCgroup
from tests.vmtest.programs import program

FILES: Final = CgroupMount.find() or CgroupMount(Path("/sys/fs/cgroup"), "/", v1=False)
"""The hierarchy that is mounted here."""

_KILLED_S: Final = 60.0

_serial = itertools.count()


@contextmanager
def limited(limit: int) -> Iterator[TemporaryCgroup]:
    """Make a cgroup below the root that may use ``limit`` bytes, and no swap."""
    name = f"guest-{os.getpid()}-{next(_serial)}"
    with TemporaryCgroup(name, limit, removal_s=_KILLED_S) as own:
        yield own
    assert not own.folder.exists(), f"{own.path} still has processes"


def fill_cgroup(memcg: Cgroup) -> int:
    """Fill the cgroup from one process until the kernel kills it; return its pid."""
    with subprocess.Popen([program("fill_cgroup"), memcg.procs]) as process:
        killed(process)
    return process.pid


@contextmanager
def python(program: str, memcg: Cgroup) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Python process that may enter the cgroup by itself; kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", program, memcg.procs], stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def killed(process: subprocess.Popen[bytes]) -> None:
    """Wait until a process was killed.

    Raises:
        AssertionError: it ended otherwise.
    """
    code = process.wait(_KILLED_S)
    assert code == -signal.SIGKILL, f"{process.args!r} was not killed, it ended with {code}"
