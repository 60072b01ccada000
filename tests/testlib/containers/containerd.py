"""Real pods of containerd by Kubernetes' runtime interface, with files in a temporary folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testlib.containers.archive import build_pod_images
from tests.testlib.containers.cri import PAUSE, CriRuntime, run_checked
from tests.testlib.containers.image import BUSYBOX
from tests.testlib.process import run_server
from tests.testlib.require import require_programs


class Containerd(CriRuntime):
    """A running containerd."""


@contextmanager
def run_containerd(client: Path) -> Iterator[Containerd]:
    """Yield containerd with its images, and remove all its files at the end; ``client`` is crictl.

    As with podman's containers, an idle pod runs all the time.
    """
    require_programs("containerd", "ctr", "runc", BUSYBOX)
    folder = Path(tempfile.mkdtemp(prefix="containerd-"))
    config = folder / "config.toml"
    config.write_text(_CONFIG.format(folder=folder, pause=PAUSE), encoding="utf-8")
    try:
        with run_server(
            "containerd",
            ["containerd", "--config", config],
            folder=folder,
            ready=lambda process: _is_ready(Containerd(process, client)),
        ) as process:
            runtime = Containerd(process, client)
            archive = folder / "images.tar"
            archive.write_bytes(build_pod_images())
            address = ("ctr", f"--address={runtime.socket}", "--namespace=k8s.io")
            run_checked(*address, "images", "import", archive)
            try:
                runtime.start_pod("idle", "kube-system")
                yield runtime
            finally:
                for sandbox in runtime.crictl("pods", "--quiet").split():
                    runtime.remove_sandbox(sandbox)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
[grpc]
address = "{folder}/sock"
[plugins."io.containerd.grpc.v1.cri"]
disable_apparmor = true
restrict_oom_score_adj = true
sandbox_image = "{pause}"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"""


def _is_ready(runtime: Containerd) -> bool:
    if not runtime.socket.exists():
        return False
    listed = run_checked("ctr", f"--address={runtime.socket}", "plugins", "ls")
    return any("cri" in line.split() and "ok" in line.split() for line in listed.splitlines())
