"""Real pods of CRI-O, with all files in a temporary folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testlib.containers.cri import IMAGE, PAUSE, CriRuntime, run_checked
from tests.testlib.containers.image import BUSYBOX, IDLE, build_image
from tests.testlib.process import run_server
from tests.testlib.require import require_programs

_CGROUPS = Path("/sys/fs/cgroup")
_LIMIT_S = 60


class CriO(CriRuntime):
    """A running CRI-O."""

    @property
    def cgroup(self) -> str:
        """Return one parent for all pods: CRI-O does not remove the cgroups of its conmons."""
        return f"/{self.process.folder.name}"


@contextmanager
def run_crio(binary: Path, pinns: Path, client: Path) -> Iterator[CriO]:
    """Yield CRI-O with its images, and remove all its files at the end; ``client`` is crictl.

    As with podman's containers, an idle pod runs all the time. It has a container, since a pod
    alone has no process.
    """
    require_programs("clang", "conmon", "podman", "runc", BUSYBOX)
    folder = Path(tempfile.mkdtemp(prefix="crio-"))
    config = folder / "crio.conf"
    for name in ("conf.d", "cni", "hooks"):
        (folder / name).mkdir()
    tools = {name: shutil.which(name) for name in ("conmon", "runc")}
    config.write_text(_CONFIG.format(folder=folder, pinns=pinns, pause=PAUSE, **tools), "utf-8")
    policy = {"default": [{"type": "insecureAcceptAnything"}]}
    (folder / "policy.json").write_text(json.dumps(policy), encoding="utf-8")
    try:
        _import_images(folder)
        with run_server(
            "crio",
            [binary, f"--config={config}", f"--config-dir={folder / 'conf.d'}"],
            folder=folder,
            ready=lambda process: _is_ready(CriO(process, client)),
        ) as process:
            runtime = CriO(process, client)
            try:
                runtime.start(runtime.start_pod("idle", "kube-system"), "i", IDLE)
                yield runtime
            finally:
                for sandbox in runtime.crictl("pods", "--quiet").split():
                    runtime.remove_sandbox(sandbox)
    finally:
        _remove_all(folder)


def _is_ready(runtime: CriO) -> bool:
    if not runtime.socket.exists():
        return False
    try:
        return "cri-o" in runtime.crictl("version")
    except AssertionError:
        return False


def _import_images(folder: Path) -> None:
    """Import the images by podman, whose storage CRI-O uses: CRI-O itself cannot import files."""
    command = ("podman", *_storage(folder))
    done = subprocess.run(
        [*command, "import", "-", IMAGE],
        check=False,
        capture_output=True,
        timeout=_LIMIT_S,
        input=build_image(),
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    run_checked(*command, "tag", IMAGE, PAUSE)


def _storage(folder: Path) -> list[str]:
    return [f"--root={folder / 'root'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]


def _remove_all(folder: Path) -> None:
    """Remove the mounts, files and cgroups that CRI-O has made."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()[::-1]:
        mounted = line.split()[1]
        if mounted.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mounted], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)
    of_pods = (folder.name, f"*/{folder.name}")
    for cgroup in (top for pattern in of_pods for top in _CGROUPS.glob(pattern)):
        for below in sorted(cgroup.rglob("*/"), reverse=True):
            below.rmdir()
        cgroup.rmdir()


_CONFIG = """\
[crio]
root = "{folder}/root"
runroot = "{folder}/run"
storage_driver = "vfs"
log_dir = "{folder}/log"
version_file = "{folder}/version"
version_file_persist = ""
clean_shutdown_file = "{folder}/clean"
[crio.api]
listen = "{folder}/sock"
[crio.runtime]
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
pinns_path = "{pinns}"
namespaces_dir = "{folder}/ns"
container_exits_dir = "{folder}/exits"
container_attach_socket_dir = "{folder}/attach"
hooks_dir = ["{folder}/hooks"]
default_runtime = "runc"
apparmor_profile = "unconfined"
[crio.runtime.runtimes.runc]
runtime_path = "{runc}"
runtime_root = "{folder}/runc"
monitor_path = "{conmon}"
[crio.image]
pause_image = "{pause}"
signature_policy = "{folder}/policy.json"
[crio.network]
network_dir = "{folder}/cni"
plugin_dirs = ["{folder}/cni"]
[crio.nri]
enable_nri = false
"""
