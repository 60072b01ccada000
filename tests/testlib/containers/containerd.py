"""Real pods of containerd by Kubernetes' runtime interface, with files in a temporary folder."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.testlib.containers.cri import IMAGE, PAUSE, CriRuntime, run_checked
from tests.testlib.containers.image import BUSYBOX, build_image
from tests.testlib.process import run_server
from tests.testlib.require import require_programs

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


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
            archive.write_bytes(_build_images())
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


def _build_images() -> bytes:
    """Return an archive of both images, as `docker save` writes it; they share their files."""
    layer = build_image()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        manifest = []
        for tag, command in ((IMAGE, ["/bin/sh"]), (PAUSE, ["/bin/sleep", "100000"])):
            config = {
                "architecture": _MACHINES[platform.machine()],
                "os": "linux",
                "config": {"Cmd": command},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
                },
            }
            name = f"{tag.rpartition('/')[2].partition(':')[0]}.json"
            _add(tar, name, json.dumps(config).encode())
            manifest.append({"Config": name, "RepoTags": [tag], "Layers": ["layer.tar"]})
        _add(tar, "layer.tar", layer)
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
