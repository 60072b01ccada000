"""Boot a kernel in a virtual machine and run one Python module in it.

The guest is emulated in software, so it needs no feature of the processor. It reads this machine's
files, cannot change them, and writes its results to one shared folder: its terminal may lose or
mix output.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.vmtest import programs
from tests.vmtest.arm64 import arm64_command
from tests.vmtest.kernels import Kernel
from tests.vmtest.results_file import RESULTS_FILE, read_results
from tests.vmtest.vng import PATH, vng_command, vng_path

_STARTED: Final = "started"
_CONSOLE: Final = "console.log"

_BOOT_LIMIT_S: Final = 240.0
_IDLE_BOOT_S: Final = 15.0
"""More than an idle machine takes to boot; a busy one takes ten times that."""

_OFF_S: Final = 120.0
"""The time for a guest to switch itself off; a panic prints its report first."""

_TRIES: Final = 2
_PANIC: Final = "end Kernel panic"
_LAST_WORDS: Final = 40
_LOCKUP: Final = b"BUG: soft lockup"
_MAX_LOCKUPS: Final = 4
"""A busy machine can keep a guest from its processors for the 22 s of one report."""


class GuestError(RuntimeError):
    """A guest did not boot or wrote no results; the message has its console's last lines."""


@dataclass(frozen=True)
class GuestRun:
    """The results of a kernel."""

    kernel: Kernel
    results: dict[str, Any]
    boot_s: float
    """Seconds from the start of the machine to the start of the module."""
    total_s: float
    hangs: int
    """The number of failed boots before this one."""


def missing() -> str | None:
    """What a guest cannot be booted without and is not here, as a sentence."""
    if os.uname().machine != "x86_64":
        return "the kernels that are tested are for x86-64"
    for program, package in (
        (vng_path(), "virtme-ng, from PyPI"),
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("qemu-system-aarch64", "qemu-system-arm"),
        ("modprobe", "kmod"),
        ("file", "file"),  # by which vng finds the release of an image
        ("bpftrace", "bpftrace"),
    ):
        if not shutil.which(program, path=PATH):
            return f"{Path(program).name} is missing; install {package}"
    return None


def run_guest(  # noqa: PLR0913  the last are seldom given
    kernel: Kernel,
    module: str,
    folder: Path,
    limit_s: float,
    devices: Sequence[str] = (),
    *,
    by_systemd: bool = False,
    root: Path | None = None,
) -> GuestRun:
    """Boot ``kernel`` and run ``python -m module FOLDER`` in it, as root and without packages.

    A boot that hangs or fails is tried once more, which is said on standard error.

    Args:
        kernel: what to boot.
        module: writes its results to that folder.
        folder: an empty one; what the guest shares with us, and where its console is kept.
        limit_s: how long the module may take; longer on a machine that is slow to boot it.
        devices: further options of QEMU.
        by_systemd: whether the module runs as a service of systemd, as there is on a host.
        root: whose systemd that is, if not this machine's.

    Raises:
        GuestError: it did not boot, or had no results in time.
        ProgramError: the programs of the scenarios cannot be compiled.
    """
    programs.build_programs(arm64=kernel.arm64)
    for hangs in range(_TRIES):
        for name in (_STARTED, _CONSOLE):
            (folder / name).unlink(missing_ok=True)
        machine = _start(kernel, module, folder, devices, by_systemd=by_systemd, root=root)
        began = time.monotonic()
        try:
            if not _appears(folder / _STARTED, machine, _BOOT_LIMIT_S):
                # An emulated processor fails now and then, in the kernel's first second.
                ended = machine.poll() is not None
                what = "ended before it had booted" if ended else "did not boot in time"
                print(describe_failure(kernel, folder, what), file=sys.stderr)  # noqa: T201  pytest shows it
                continue
            booted = time.monotonic()
            slowness = max(1.0, (booted - began) / _IDLE_BOOT_S)
            if not _appears(folder / RESULTS_FILE, machine, limit_s * slowness):
                failure = describe_failure(kernel, folder, "had no results")
                # Likewise when it has booted: in the file system that it has from us, or for ever
                # at one instruction that another processor has patched.
                panicked = machine.poll() is not None and _PANIC in failure
                if hangs + 1 < _TRIES and (panicked or _is_stuck(folder)):
                    print(failure, file=sys.stderr)  # noqa: T201  as above
                    continue
                raise GuestError(failure)
            with suppress(subprocess.TimeoutExpired):
                machine.wait(_OFF_S)
            return GuestRun(
                kernel,
                read_results(folder),
                booted - began,
                time.monotonic() - began,
                hangs,
            )
        finally:
            _end(machine)
    raise GuestError(describe_failure(kernel, folder, f"did not boot, {_TRIES} times"))


@contextmanager
def start_machine(
    kernel: Kernel, module: str, folder: Path, devices: Sequence[str] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the module in a guest, which is yielded at once; cut its power at the end.

    The arguments are those of :func:`run_guest`.

    Raises:
        ProgramError: the programs of the scenarios cannot be compiled.
    """
    programs.build_programs(arm64=kernel.arm64)
    started = _start(kernel, module, folder, devices)
    try:
        yield started
    finally:
        _end(started)


def _start(  # noqa: PLR0913  those of run_guest
    kernel: Kernel,
    module: str,
    folder: Path,
    devices: Sequence[str],
    *,
    by_systemd: bool = False,
    root: Path | None = None,
) -> subprocess.Popen[bytes]:
    started = folder / _STARTED
    command = (
        arm64_command(kernel, module, folder, started)
        if kernel.arm64
        else vng_command(kernel, module, folder, started, devices, by_systemd=by_systemd, root=root)
    )
    with (folder / _CONSOLE).open("ab") as console:
        return subprocess.Popen(
            # A PID namespace of its own: whatever ends us, QEMU does not go on.
            [
                *("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--pid", "--fork"),
                *(() if os.geteuid() == 0 else ("--map-root-user",)),
                *("--kill-child=KILL", "--mount-proc", "--", "nice", "-n", "3", *command),
            ],
            cwd=folder,
            # vng finds its other half there.
            env={**os.environ, "PATH": f"{Path(vng_path()).parent}:{PATH}"},
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            # vng, its shell, virtme-run and QEMU: one group, which is ended as one.
            process_group=0,
        )


def _appears(path: Path, machine: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Return True if the file appears in time, before the machine ends or gets stuck."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        ended = machine.poll() is not None
        if path.exists():
            return True
        if ended or _is_stuck(path.parent):
            return False
        time.sleep(0.2)
    return False


def _is_stuck(folder: Path) -> bool:
    """Return True if the guest's kernel has reported a processor as stuck, several times."""
    console = folder / _CONSOLE
    return console.read_bytes().count(_LOCKUP) >= _MAX_LOCKUPS


def _end(machine: subprocess.Popen[bytes]) -> None:
    """Kill all processes of the machine, also those that outlived the first."""
    with suppress(ProcessLookupError):
        os.killpg(machine.pid, signal.SIGKILL)
    machine.wait()


def describe_failure(kernel: Kernel, folder: Path, what: str) -> str:
    """Return what happened to a guest, with the end of its console."""
    failure = (folder / _CONSOLE).read_text(encoding="utf-8", errors="replace").splitlines()
    tail = "\n".join(failure[-_LAST_WORDS:])
    return f"{kernel.release} {what}; the end of its console:\n{tail}"
