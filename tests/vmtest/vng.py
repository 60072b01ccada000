"""The command that boots an x86-64 kernel with this machine's own files, by virtme-ng."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.testlib.repository import REPOSITORY
from tests.vmtest import systemd
from tests.vmtest.kernels import Kernel

PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

EMULATION: Final = (
    *("-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm"),
    *("-global", "virtio-serial-pci.ioeventfd=off", "-global", "virtio-9p-pci.ioeventfd=off"),
)
"""One thread for all processors: with several, a kernel that patches its own code may run half of
an instruction, and stops or ends there. No fast string operations: emulated, each of their bytes is
a step, which makes clearing and copying memory eight times slower. And no eventfd for each queue of
a device: QEMU polls all 390 of them a thousand times a second, for a quarter of its time."""

_PREPARE: Final = (
    # Without it, each page of a mapped file is a question to this machine.
    "for setting in /sys/class/bdi/9p-*/read_ahead_kb; do echo 512 > $setting; done; "
    # The kernel waits for each byte of its console. Panics and lockups are still printed there.
    "echo 4 > /proc/sys/kernel/printk"
)

_PACKAGES: Final = REPOSITORY / "build" / "guest-packages"


def vng_path() -> str:
    """Return the vng beside our interpreter, else that on PATH, else its name."""
    own = Path(sys.executable).with_name("vng")
    return str(own) if own.exists() else shutil.which("vng", path=PATH) or "vng"


def vng_command(  # noqa: PLR0913  those of run_guest
    kernel: Kernel,
    module: str,
    folder: Path,
    started: Path,
    devices: Sequence[str],
    *,
    by_systemd: bool,
    root: Path | None = None,
) -> list[str]:
    """Return the command; ``started`` is a file that is made as the module starts.

    The other arguments are those of :func:`tests.vmtest.guest.run_guest`.
    """
    # Each file that an import looks for is a question to this machine: of site-packages only
    # what is needed.
    inside = shlex.join([sys.executable, "-S", "-B", "-m", module, str(folder)])
    inside = f"PYTHONPATH={shlex.quote(str(_link_packages()))} {inside}"
    # The guest cannot write what it compiles.
    compiling = [sys.executable, "-m", "compileall", "-qq", str(Path(__file__).parent)]
    subprocess.run(compiling, check=False)
    script = (
        f"{_PREPARE} && cd {shlex.quote(str(REPOSITORY))} && : > {started} && "
        # The kernel shall find its victims among those of the scenarios: without its shell a
        # guest ends.
        f"echo -1000 > /proc/self/oom_score_adj && {inside}"
    )
    return [
        *(vng_path(), "--run", str(kernel.image), "--verbose"),
        # The processor's own virtualization does not boot every one of these, nor is it in CI.
        *("--disable-kvm", "--disable-microvm", "--force-9p"),
        *("--user", "root", "--memory", "2G" if by_systemd else "1G", "--cpus", "2"),
        *("--rwdir", str(folder)),
        # Nothing of the log may be overwritten before it is read.
        *("--append", "log_buf_len=8M"),
        # Several nodes, to bind to; 5.10 accounts swap to cgroups only with this option.
        *("--append", "numa=fake=4", "--append", "swapaccount=1"),
        # Debian's kernels keep pressure stall information only with this option.
        *("--append", "psi=1"),
        f"--qemu-opts={' '.join((*EMULATION, *devices))}",
        *(systemd.boot_arguments(folder, script, REPOSITORY, root) if by_systemd else []),
        *("--", "true" if by_systemd else script),
    ]


def _link_packages() -> Path:
    """Return a folder that has the packages which the product needs in a guest, as links."""
    _PACKAGES.mkdir(parents=True, exist_ok=True)
    link = _PACKAGES / msgspec.__name__
    installed = Path(msgspec.__file__).parent
    if not link.exists() or not link.samefile(installed):
        unfinished = _PACKAGES / f".{uuid.uuid4()}"  # several guests start at once
        unfinished.symlink_to(installed)
        unfinished.rename(link)
    return _PACKAGES
