"""The client of Kubernetes' runtime interface: it starts pods as a kubelet does."""

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
"""The host's network, for which no plug-in is needed, and processes of each container's own."""


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
class CriRuntime:
    """A running runtime, its socket ``sock``, and the client of Kubernetes' interface for it."""

    process: ServerProcess
    client: Path

    @property
    def socket(self) -> Path:
        """Where its API is."""
        return self.process.folder / "sock"

    @property
    def cgroup(self) -> str | None:
        """Where pods are, of which nothing else is said; ``None`` is the runtime's own choice."""
        return None

    def crictl(self, *words: str | Path) -> str:
        """Run crictl; what it prints."""
        address = f"unix://{self.socket}"
        config = self.process.folder / "crictl.yaml"
        config.touch()
        return run_checked(
            *(self.client, f"--config={config}"),
            *(f"--runtime-endpoint={address}", f"--image-endpoint={address}"),
            *words,
        )

    def start_pod(  # noqa: PLR0913  what a pod has
        self,
        name: str,
        namespace: str,
        uid: str | None = None,
        cgroup: str | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> Pod:
        """Start a pod, which has no containers yet; ``cgroup`` is what the kubelet made for it."""
        uid = uid or str(uuid.uuid4())
        cgroup = cgroup or self.cgroup
        identity = {"name": name, "namespace": namespace, "uid": uid}
        of_kubelet = {f"io.kubernetes.pod.{key}": value for key, value in identity.items()}
        config: Mapping[str, Any] = {
            "metadata": {**identity, "attempt": 0},
            "labels": {**of_kubelet, **(labels or {})},
            "annotations": annotations or {},
            "log_directory": str(self.process.folder),
            "linux": {**_SECURITY, **({"cgroup_parent": cgroup} if cgroup else {})},
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
            "labels": {**_of_kubelet(pod), "io.kubernetes.container.name": name},
            "annotations": {"io.kubernetes.container.restartCount": "0"},
            "log_path": f"{name}.log",
            "linux": {**_SECURITY, "resources": {"memory_limit_in_bytes": memory or 0}},
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
        status = wait_until(lambda: self._ended(container_id), f"the end of {container_id}")
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
        wait_until(lambda: not self.crictl("ps", "--quiet", f"--pod={sandbox}"), "the pod's end")
        self.crictl("rmp", sandbox)

    def _file(self, name: str, content: Mapping[str, Any]) -> Path:
        path = self.process.folder / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return path


def run_checked(*command: str | Path) -> str:
    """Run a command; what it prints."""
    done = subprocess.run(command, check=False, capture_output=True, timeout=_LIMIT_S)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return str(done.stdout.decode())


def _of_kubelet(pod: Pod) -> dict[str, str]:
    """Of a pod's labels those that the kubelet gives to its containers too."""
    labels: Mapping[str, str] = pod.config["labels"]
    return {key: value for key, value in labels.items() if key.startswith("io.kubernetes.pod.")}
