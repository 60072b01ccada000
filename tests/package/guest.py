"""A guest of its own root: Debian with systemd as the first process, and a folder of ours.

Not the guests of tests/vmtest, which see this machine's files: here a package is installed.
"""

from __future__ import annotations

import lzma
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.testlib.debian.roots import debian_disk
from tests.testlib.require import require, require_programs
from tests.vmtest.guest import GuestError
from tests.vmtest.kernels import Kernel, fetch_kernel
from tests.vmtest.vng import EMULATION

KERNELS: Final = {"bookworm": "6.1", "trixie": "6.12"}
"""The kernel of each suite, by its name in kernels.toml."""
_PACKAGES: Final = ("bpftool", "python3", "systemd-sysv")
COMPLETE: Final = "complete"
"""The file that the script writes at its end."""

_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4", "9pnet_virtio", "9p")
_LIMIT_S: Final = 2400.0
"""An idle machine takes some minutes; one with ten times the load took 17."""
_LAST_LINES: Final = 40

_INIT: Final = """\
#!/bin/busybox sh
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod "$module"; done
busybox mount -t ext4 /dev/vda /root
busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /root/mnt
busybox cp /guest.service /root/etc/systemd/system/
busybox ln -s ../guest.service /root/etc/systemd/system/multi-user.target.wants/
exec busybox switch_root /root /sbin/init
"""
_SERVICE: Final = """\
[Unit]
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate
[Service]
Type=exec
OOMScoreAdjust=-1000
StandardOutput=file:/mnt/output
StandardError=inherit
ExecStart=/bin/bash /mnt/guest.sh
[Install]
WantedBy=multi-user.target
"""


def run_guest(suite: str, script: Path, folder: Path) -> None:
    """Boot the suite with its own kernel, and run the script there, which sees ``folder`` as /mnt.

    The root is as new in every guest.

    Raises:
        BuildError: kernel or root cannot be had.
        GuestError: the script did not reach its end in time.
    """
    require(os.uname().machine == "x86_64", "the guests are for x86-64")
    require_programs("qemu-system-x86_64", "busybox", "mmdebstrap", "mke2fs")
    kernel, root = fetch_kernel(KERNELS[suite]), debian_disk(suite, *_PACKAGES)
    shutil.copy(script, folder / "guest.sh")
    initramfs = folder / "initramfs"
    _write_initramfs(kernel, initramfs)
    console = folder / "console"
    command = (
        *("setpriv", "--pdeathsig", "KILL", "--", "nice", "-n", "3", "qemu-system-x86_64"),
        *(*EMULATION, "-smp", "2", "-m", "1G", "-nographic", "-no-reboot"),
        *("-nic", "none", "-kernel", kernel.image, "-initrd", initramfs),
        *("-append", "console=ttyS0 quiet panic=-1 systemd.show_status=0"),
        *("-drive", f"file={root},format=raw,if=virtio,snapshot=on"),
        *("-virtfs", f"local,path={folder},mount_tag=share,security_model=none"),
    )
    with console.open("wb") as output:
        machine = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
        )
        try:
            machine.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
    if not (folder / COMPLETE).exists():
        lines = console.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        raise GuestError(f"{suite} did not reach the end of its script:\n" + "\n".join(lines))


def _write_initramfs(kernel: Kernel, target: Path) -> None:
    """Pack busybox and the modules that lead to the root, in the order of their dependencies."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for empty in ("bin", "dev", "modules", "root"):
            (folder / empty).mkdir()
        shutil.copy(shutil.which("busybox") or "busybox", folder / "bin/busybox")
        (folder / "init").write_text(_INIT, encoding="utf-8")
        (folder / "init").chmod(0o755)
        (folder / "guest.service").write_text(_SERVICE, encoding="utf-8")
        for number, module in enumerate(dict.fromkeys(_list_modules(kernel))):
            content = module.read_bytes()
            if module.suffix == ".xz":
                content = lzma.decompress(content)
            (folder / f"modules/{number:02}").write_bytes(content)
        names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
        words = ("busybox", "cpio", "-o", "-H", "newc")
        done = subprocess.run(
            words, cwd=folder, input=names.encode(), stdout=subprocess.PIPE, check=True
        )
        target.write_bytes(done.stdout)


def _list_modules(kernel: Kernel) -> Iterator[Path]:
    root = kernel.image.parents[1]
    modprobe = shutil.which("modprobe", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    words = (modprobe or "modprobe", "-C", "/dev/null", "-d", root, "-S", kernel.release)
    for name in _MODULES:
        done = subprocess.run(
            (*words, "--show-depends", name), capture_output=True, text=True, check=True
        )
        for line in done.stdout.splitlines():
            action, _, path = line.strip().partition(" ")
            if action == "insmod":
                yield Path(path)
