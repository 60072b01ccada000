"""The command that boots an arm64 kernel, with all files in its initramfs.

The wheel is there as pip unpacks it, with its own libbpf and its own BPF object; the tests are
those of this repository. Debian's Python for arm64 runs both.
"""

from __future__ import annotations

import shlex
import shutil
import zipfile
from pathlib import Path
from typing import Final

from tests.testlib.distribution import built_wheel
from tests.testlib.repository import REPOSITORY
from tests.vmtest.arm64_root import (
    PYTHON_VERSION,
    compile_modules,
    fetch_msgspec,
    fetch_root,
    pack_files,
)
from tests.vmtest.kernels import Kernel
from tests.vmtest.programs import ARM64_PROGRAMS
from tests.vmtest.requirements import GUEST_OPTION

SITE: Final = Path("/site")
"""The folder of the wheel's and its dependency's files in the guest."""
_CHECKOUT: Final = Path("/repository")
"""The folder of the tests in the guest; without otel_oom itself."""

_INITRD: Final = "initrd"
_NODES: Final = 4
_NODE_MIB: Final = 512

_INIT: Final = """\
#!/bin/bash
export PATH=/usr/sbin:/usr/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec > /dev/console 2>&1 < /dev/null
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mount -t tracefs tracefs /sys/kernel/tracing
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +memory > /sys/fs/cgroup/cgroup.subtree_control
for module in virtio_pci 9pnet_virtio 9p; do modprobe "$module"; done
ip link set lo up
mkdir -p {folder}
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 results {folder}
# The kernel shall find its victims among those of the scenarios.
echo -1000 > /proc/self/oom_score_adj
cd {checkout}
: > {started}
PYTHONPATH={site} python{version} -S -B -m {module} {folder}
echo o > /proc/sysrq-trigger
sleep 60
"""


def arm64_command(kernel: Kernel, module: str, folder: Path, started: Path) -> list[str]:
    """Return the command; ``started`` is a file that is made as the module starts.

    The other arguments are those of :func:`tests.vmtest.guest.run_guest`. The caller has built
    the programs.

    Raises:
        BuildError: a part of the guest cannot be fetched or built; says why.
    """
    initrd = folder / _INITRD
    _write_initrd(initrd, kernel, module, folder, started)
    nodes = [
        option
        for node in range(_NODES)
        for option in (
            *("-object", f"memory-backend-ram,id=memory{node},size={_NODE_MIB}M"),
            *("-numa", f"node,memdev=memory{node}" + (",cpus=0-1" if node == 0 else "")),
        )
    ]
    return [
        *("qemu-system-aarch64", "-M", "virt", "-smp", "2", "-m", f"{_NODES * _NODE_MIB}M"),
        *("-cpu", "cortex-a76"),  # the oldest of Arm's with pages of 16 KiB
        *("-nographic", "-no-reboot", "-nic", "none", *nodes),
        *("-kernel", str(kernel.image), "-initrd", str(initrd)),
        *("-fsdev", f"local,id=results,path={folder},security_model=none,multidevs=remap"),
        *("-device", "virtio-9p-pci,fsdev=results,mount_tag=results"),
        *("-append", f"console=ttyAMA0 panic=-1 log_buf_len=8M psi=1 {GUEST_OPTION}"),
    ]


def _write_initrd(initrd: Path, kernel: Kernel, module: str, folder: Path, started: Path) -> None:
    """Write the root folder, the kernel's modules, and the files of this run, one after another."""
    own = folder / "own"
    checkout = own / _CHECKOUT.relative_to("/")
    shutil.copytree(
        REPOSITORY / "tests",
        checkout / "tests",
        ignore=lambda _, names: [name for name in names if not _is_needed(name)],
    )
    compile_modules(checkout / "tests")
    shutil.copytree(ARM64_PROGRAMS, checkout / "build/guests")
    site = own / SITE.relative_to("/")
    _install_wheel(site)
    modules = Path("usr/lib/modules", kernel.release)
    shutil.copytree(kernel.image.parents[1] / modules, own / modules)
    (own / "init").write_text(
        _INIT.format(
            folder=shlex.quote(str(folder)),
            checkout=_CHECKOUT,
            started=shlex.quote(str(started)),
            site=SITE,
            version=PYTHON_VERSION,
            module=module,
        ),
        encoding="utf-8",
    )
    (own / "init").chmod(0o755)
    packed = folder / "own.cpio"
    pack_files(own, packed)
    with initrd.open("wb") as output:
        for part in (fetch_root(), packed):
            with part.open("rb") as file:
                shutil.copyfileobj(file, output)
    packed.unlink()
    shutil.rmtree(own)


def _is_needed(name: str) -> bool:
    return name.endswith(".py") or ("." not in name and name != "__pycache__")


def _install_wheel(site: Path) -> None:
    """Unpack the wheel, and the one dependency that capture needs."""
    with zipfile.ZipFile(built_wheel("aarch64")) as wheel:
        wheel.extractall(site)
    shutil.copytree(fetch_msgspec(), site, dirs_exist_ok=True)
    compile_modules(site)
