"""Real pods by containerd and Kubernetes' runtime interface, with all folders the test's own."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.parts import podman
from tests.parts.process import Process, running
from tests.parts.wait import until

IMAGE = "localhost/otel-oom-test:1.2"
_PAUSE = "localhost/otel-oom-pause:1"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_LIMIT_S = 60


@dataclass(frozen=True)
class Pod:
    """A pod that runs: the id of its sandbox, and what it was asked for with."""

    sandbox: str
    config: Mapping[str, Any]

    @property
    def uid(self) -> str:
        """The uid that Kubernetes would have given it."""
        return str(self.config["metadata"]["uid"])


@dataclass(frozen=True)
class Containerd:
    """A running containerd, and the client of Kubernetes' runtime interface for it."""

    process: Process
    client: Path

    @property
    def socket(self) -> Path:
        """Where its API is."""
        return self.process.folder / "sock"

    def crictl(self, *words: str | Path) -> str:
        """Run crictl; what it prints."""
        address = f"unix://{self.socket}"
        config = self.process.folder / "crictl.yaml"
        config.touch()
        return _output(
            *(self.client, f"--config={config}"),
            *(f"--runtime-endpoint={address}", f"--image-endpoint={address}"),
            *words,
        )

    def start_pod(
        self, name: str, namespace: str, uid: str | None = None, cgroup: str | None = None
    ) -> Pod:
        """Start a pod, which has no containers yet; ``cgroup`` is what the kubelet made for it."""
        uid = uid or str(uuid.uuid4())
        labels = {"name": name, "namespace": namespace, "uid": uid}
        config: Mapping[str, Any] = {
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "attempt": 0},
            "labels": {f"io.kubernetes.pod.{key}": value for key, value in labels.items()},
            "log_directory": str(self.process.folder),
            "linux": {
                # The host's network, for which no plug-in is needed.
                "security_context": {"namespace_options": {"network": 2}},
                **({"cgroup_parent": cgroup} if cgroup else {}),
            },
        }
        return Pod(self.crictl("runp", self._file("pod", config)).strip(), config)

    def start(self, pod: Pod, name: str, program: str, memory: int | None = 24 << 20) -> str:
        """Start a container of a pod with a shell's ``program``; its id.

        ``memory`` is its own limit in bytes, if it is to have one.
        """
        config = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", program],
            "labels": {"io.kubernetes.container.name": name},
            "log_path": f"{name}.log",
            "linux": {"resources": {"memory_limit_in_bytes": memory or 0}},
        }
        files = (self._file(name, config), self._file("pod", pod.config))
        container_id = self.crictl("create", pod.sandbox, *files).strip()
        self.crictl("start", container_id)
        return container_id

    def run_in(self, container_id: str, program: str) -> None:
        """Run a shell's ``program`` in a container that runs."""
        self.crictl("exec", "--sync", container_id, "sh", "-c", program)

    def ended(self, container_id: str) -> int:
        """Wait for the end of a container; its exit code."""
        status = until(lambda: self._ended(container_id), f"the end of {container_id}")
        return int(status["exitCode"])

    def _ended(self, container_id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.inspect(container_id)["status"]
        return status if status["state"] == "CONTAINER_EXITED" else {}

    def inspect(self, container_id: str) -> dict[str, Any]:
        """What the runtime says of a container."""
        inspected: dict[str, Any] = json.loads(self.crictl("inspect", container_id))
        return inspected

    def inspect_pod(self, pod: Pod) -> dict[str, Any]:
        """What the runtime says of a pod."""
        inspected: dict[str, Any] = json.loads(self.crictl("inspectp", pod.sandbox))
        return inspected

    def remove(self, pod: Pod) -> None:
        """End and forget a pod and all that is in it."""
        self.remove_sandbox(pod.sandbox)

    def remove_sandbox(self, sandbox: str) -> None:
        """The same by the id of its sandbox."""
        self.crictl("stopp", sandbox)
        # A container that has just died by itself still counts as running for a moment.
        until(lambda: not self.crictl("ps", "--quiet", f"--pod={sandbox}"), "the pod's end")
        self.crictl("rmp", sandbox)

    def _file(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.process.folder / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


def missing() -> str:
    """What this machine lacks to run containers; nothing if it can."""
    tools = [name for name in ("containerd", "ctr", "runc") if not shutil.which(name)]
    return " and ".join([*tools, *([] if podman.BUSYBOX.exists() else ["busybox-static"])])


@contextmanager
def containerd(client: Path) -> Iterator[Containerd]:
    """Yield containerd with its images ready; ``client`` is crictl. Nothing of it is left.

    As with podman's containers, one pod is there all the time.
    """
    folder = Path(tempfile.mkdtemp(prefix="containerd-"))
    config = folder / "config.toml"
    config.write_text(_CONFIG.format(folder=folder, pause=_PAUSE), encoding="utf-8")
    try:
        with running(
            "containerd",
            ["containerd", "--config", config],
            folder=folder,
            ready=lambda process: _answers(Containerd(process, client)),
        ) as process:
            runtime = Containerd(process, client)
            archive = folder / "images.tar"
            archive.write_bytes(_images())
            address = ("ctr", f"--address={runtime.socket}", "--namespace=k8s.io")
            _output(*address, "images", "import", archive)
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
    listed = _output("ctr", f"--address={runtime.socket}", "plugins", "ls")
    return any("cri" in line.split() and "ok" in line.split() for line in listed.splitlines())


def _images() -> bytes:
    """The archive of both images, as `docker save` writes it; they share their files."""
    layer = podman.image()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        manifest = []
        for tag, command in ((IMAGE, ["/bin/sh"]), (_PAUSE, ["/bin/sleep", "100000"])):
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


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, check=False, capture_output=True, timeout=_LIMIT_S)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()
