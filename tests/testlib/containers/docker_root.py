"""Docker of Debian 13 in a root directory of its own: that of Debian 12 knows no CAP_BPF."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.testlib.containers.docker import Docker, is_ready, use_docker
from tests.testlib.debian.roots import debian_archive
from tests.testlib.process import ServerProcess, run_server

_SUITE: Final = "trixie"
_PACKAGES: Final = ("ca-certificates", "docker-cli", "docker-compose", "docker.io", "iptables")
_START: Final = """\
set -e
root=$1/root
shift
mount --bind $root $root
for name in proc sys dev; do mount --rbind /$name $root/$name; done
mount -t bpf -o mode=700 bpf $root/sys/fs/bpf
mkdir -p $root$PWD $root/old
mount --bind $PWD $root$PWD
ip link set lo up
cd $root
pivot_root . old
umount --lazy /old
exec "$@"
"""
_NO_NETWORK: Final = ("--bridge=none", "--iptables=false", "--ip6tables=false")


@contextmanager
def run_docker_of_root(*, bridge: bool) -> Iterator[Docker]:
    """Yield Docker with its image and a bpffs of its own, and remove all its files at the end.

    With ``bridge`` it has a network of its own, in which it makes networks for containers.
    """
    folder = Path(tempfile.mkdtemp(prefix="docker-"))
    (folder / "root").mkdir()
    archive = debian_archive(_SUITE, *_PACKAGES)
    # The devices are those of the host.
    unpack = ("tar", "--exclude=./dev/*", "-C", folder / "root", "-xf", archive)
    subprocess.run(unpack, check=True)
    namespaces = ("--mount", "--net") if bridge else ("--mount",)
    command = (
        *("unshare", *namespaces, "--propagation=private", "sh", "-c", _START, "sh", folder),
        *("dockerd", *(() if bridge else _NO_NETWORK), "--storage-driver=overlay2"),
        *(f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}"),
        *(f"--pidfile={folder / 'pid'}", f"--host=unix://{folder / 'docker.sock'}"),
    )
    try:
        with (
            run_server(
                "dockerd", command, folder=folder, ready=lambda process: is_ready(_open(process))
            ) as process,
            use_docker(_open(process)) as runtime,
        ):
            yield runtime
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def mount_containers(runtime: Docker) -> Iterator[str]:
    """Yield the mounts by which an agent in a container reads the files of containers.

    It needs them only where it can't read the root directory of init.
    """
    data = runtime.process.folder / "data/containers"
    yield f"{runtime.process.folder / 'exec'}:/run/docker:ro"
    yield f"{data}:{data}:ro"


def _open(process: ServerProcess) -> Docker:
    enter = ("nsenter", f"--target={process.pid}", "--mount", "--net", "--")
    return Docker(process, enter)
