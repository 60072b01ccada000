"""Real pods by containerd and Kubernetes' runtime interface, with all folders the test's own."""

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

from tests.testlib.containers import podman
from tests.testlib.containers.cri import IMAGE, PAUSE, CriRuntime, run_checked
from tests.testlib.process import run_server

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class Containerd(CriRuntime):
    """A running containerd."""


def missing() -> str:
    """What this machine lacks to run containers; nothing if it can."""
    tools = [name for name in ("containerd", "ctr", "runc") if not shutil.which(name)]
    return " and ".join([*tools, *([] if podman.BUSYBOX.exists() else ["busybox-static"])])


@contextmanager
def run_containerd(client: Path) -> Iterator[Containerd]:
    """Yield containerd with its images ready; ``client`` is crictl. Nothing of it is left.

    As with podman's containers, one pod is there all the time.
    """
    folder = Path(tempfile.mkdtemp(prefix="containerd-"))
    config = folder / "config.toml"
    config.write_text(_CONFIG.format(folder=folder, pause=PAUSE), encoding="utf-8")
    try:
        with run_server(
            "containerd",
            ["containerd", "--config", config],
            folder=folder,
            ready=lambda process: _answers(Containerd(process, client)),
        ) as process:
            runtime = Containerd(process, client)
            archive = folder / "images.tar"
            archive.write_bytes(_images())
            address = ("ctr", f"--address={runtime.socket}", "--namespace=k8s.io")
            run_checked(*address, "images", "import", archive)
            try:
                runtime.start_pod("standing", "kube-system")
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


def _answers(runtime: Containerd) -> bool:
    if not runtime.socket.exists():
        return False
    listed = run_checked("ctr", f"--address={runtime.socket}", "plugins", "ls")
    return any("cri" in line.split() and "ok" in line.split() for line in listed.splitlines())


def _images() -> bytes:
    """The archive of both images, as `docker save` writes it; they share their files."""
    layer = podman.build_image()
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
