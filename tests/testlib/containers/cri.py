"""A client of Kubernetes' runtime interface, which starts pods as a kubelet does."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testlib.process import ServerProcess
from tests.testlib.wait import wait_until

IMAGE = "localhost/otel-oom-test:1.2"
PAUSE = "localhost/otel-oom-pause:1"
_LIMIT_S = 60
_SECURITY = {"security_context": {"namespace_options": {"network": 2, "pid": 1}}}
"""The host's network, which needs no plug-in, and a PID namespace for each container."""


@dataclass(frozen=True)
class Pod:
    """A running pod: the id of its sandbox, and its configuration."""

    sandbox: str
    config: Mapping[str, Any]

    @property
    def uid(self) -> str:
        """Return the uid that Kubernetes would have given it."""
        return str(self.config["metadata"]["uid"])


@dataclass(frozen=True)
class CriRuntime:
    """A running runtime, with its socket ``sock`` in its folder, and crictl as its client."""

    process: ServerProcess
    client: Path

    @property
    def socket(self) -> Path:
        """Return the path of the API's socket."""
        return self.process.folder / "sock"

    @property
    def cgroup(self) -> str | None:
        """Return the parent cgroup of pods that name none; ``None`` is the runtime's default."""
        return None

    def crictl(self, *words: str | Path) -> str:
        """Run crictl; return what it prints."""
        address = f"unix://{self.socket}"
        config = self.process.folder / "crictl.yaml"
        config.touch()
        return run_checked(
            *(self.client, f"--config={config}", "--timeout=60s"),  # of 2 s by default
            *(f"--runtime-endpoint={address}", f"--image-endpoint={address}"),
            *words,
        )

    def start_pod(  # noqa: PLR0913  each is named at the call
        self,
        name: str,
        namespace: str,
        uid: str | None = None,
        cgroup: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """Start a pod without containers; ``cgroup`` is the one that the kubelet made for it."""
        uid = uid or str(uuid.uuid4())
        cgroup = cgroup or self.cgroup
        identity = {"name": name, "namespace": namespace, "uid": uid}
        kubelet_labels = {f"io.kubernetes.pod.{key}": value for key, value in identity.items()}
        config: Mapping[str, Any] = {
            "metadata": {**identity, "attempt": 0},
            "labels": {**kubelet_labels, **(labels or {})},
            "annotations": annotations or {},
            "log_directory": str(self.process.folder),
            "linux": {**_SECURITY, **({"cgroup_parent": cgroup} if cgroup else {})},
        }
        return Pod(self.crictl("runp", self._write_json("pod", config)).strip(), config)

    def start(self, pod: Pod, name: str, program: str, memory: int | None = 24 << 20) -> str:
        """Start a container of a pod that runs a shell ``program``; return its id.

        ``memory`` is its own limit in bytes, if any.
        """
        config = {
            "metadata": {"name": name, "attempt": 0},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", program],
            "labels": {**_kubelet_labels(pod), "io.kubernetes.container.name": name},
            "annotations": {"io.kubernetes.container.restartCount": "0"},
            "log_path": f"{name}.log",
            "linux": {**_SECURITY, "resources": {"memory_limit_in_bytes": memory or 0}},
        }
        files = (self._write_json(name, config), self._write_json("pod", pod.config))
        container_id = self.crictl("create", pod.sandbox, *files).strip()
        self.crictl("start", container_id)
        return container_id

    def run_in(self, container_id: str, program: str) -> None:
        """Run a shell ``program`` in a running container."""
        self.crictl("exec", "--sync", container_id, "sh", "-c", program)

    def wait(self, container_id: str) -> int:
        """Wait until a container ends; return its exit code."""
        status = wait_until(lambda: self._exited_status(container_id), f"the end of {container_id}")
        return int(status["exitCode"])

    def _exited_status(self, container_id: str) -> dict[str, Any]:
        status: dict[str, Any] = self.inspect(container_id)["status"]
        return status if status["state"] == "CONTAINER_EXITED" else {}

    def inspect(self, container_id: str) -> dict[str, Any]:
        """Return what the runtime reports of a container."""
        inspected: dict[str, Any] = json.loads(self.crictl("inspect", container_id))
        return inspected

    def inspect_pod(self, pod: Pod) -> dict[str, Any]:
        """Return what the runtime reports of a pod."""
        inspected: dict[str, Any] = json.loads(self.crictl("inspectp", pod.sandbox))
        return inspected

    def remove(self, pod: Pod) -> None:
        """Stop and remove a pod with its containers."""
        self.remove_sandbox(pod.sandbox)

    def remove_sandbox(self, sandbox: str) -> None:
        """Stop and remove a pod by the id of its sandbox.

        CRI-O gives a container until the client's own time limit to end by SIGTERM.
        """
        for container_id in self.crictl("ps", "--quiet", f"--pod={sandbox}").split():
            self.crictl("stop", "--timeout=0", container_id)
        self.crictl("stopp", sandbox)
        # A container that has just died still counts as running for a moment.
        wait_until(lambda: not self.crictl("ps", "--quiet", f"--pod={sandbox}"), "the pod's end")
        self.crictl("rmp", sandbox)

    def _write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.process.folder / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


def run_checked(*command: str | Path) -> str:
    """Run a command, which must succeed; return what it prints."""
    done = subprocess.run(command, check=False, capture_output=True, timeout=_LIMIT_S)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return str(done.stdout.decode())


def _kubelet_labels(pod: Pod) -> dict[str, str]:
    """Return those labels of a pod that the kubelet gives to its containers too."""
    labels: Mapping[str, str] = pod.config["labels"]
    return {key: value for key, value in labels.items() if key.startswith("io.kubernetes.pod.")}
